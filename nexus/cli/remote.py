"""Asking a running gateway over HTTP.  Standard library only; what the answers mean belongs to the commands."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from nexus.cli.calling import calling
from nexus.cli.failure import Failure

TIMEOUT_SECONDS = 10.0
SIGN = "X-Nexus-Request-Id"  # what every refusal of Nexus carries
# What another server's page of that name does not have.
MARKS = {"/health": "uptime_seconds", "/nexus/backends": "backends", "/nexus/models": "models", "/nexus/explain": "refusals"}
FOR_ADMINS = "/nexus/"
ABOUT_THE_KEY = ("invalid_key", "admin_only")  # the codes that another key in the variable would help


class Remote:
    """One gateway.  `key` is what it is shown, `key_name` the variable that it came from, for hints.

    `url` may carry a prefix, and the `/v1` that clients are given; without a scheme it is of HTTP.  Raises Failure with a sentence that says what to do.
    """

    def __init__(self, url: str, key: str | None = None, key_name: str = "NEXUS_KEY") -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/").removesuffix("/v1")
        self._key = (key or "").strip()
        self._key_name = key_name
        try:
            parts = urlsplit(self.url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError:
            parts, self._host, self._port = urlsplit(""), "", None
        if parts.scheme not in ("http", "https") or not self._host:
            raise Failure("the gateway's URL must look like http://127.0.0.1:6398: see --url and NEXUS_URL")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise Failure(  # never the URL: it may hold a key
                f"the gateway's URL must hold no user name, key, ?query or #fragment: put the key into {key_name} and leave it out"
            )
        self._tls = parts.scheme == "https"
        self._prefix = parts.path

    @property
    def has_key(self) -> bool:
        """Whether there is a key to show."""
        return bool(self._key)

    def get(self, path: str) -> Any:
        """The JSON at `path`."""
        return self._ask("GET", path, None)

    def post(self, path: str, value: Any) -> Any:
        """What the gateway answers to this JSON."""
        return self._ask("POST", path, json.dumps(value).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        status, signed, raw = self._exchange(method, path, body)
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or not (signed or (status == 200 and MARKS.get(path) in (None, *answer))):
            raise Failure(f"what answers at {self.url} is not a Nexus gateway ({method} {path}: status {status})")
        if status != 200:
            raise Failure(self._refused(path, status, answer))
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bool, bytes]:
        """The status, whether Nexus' own header is there, and the body."""
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT_SECONDS)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        try:
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            connection.request(method, self._prefix + path, body, headers)
            response = connection.getresponse()
            return response.status, SIGN in response.headers, response.read()
        except TimeoutError:
            raise Failure(f"the gateway at {self.url} did not answer within {TIMEOUT_SECONDS:g} s") from None
        except ConnectionRefusedError:
            raise Failure(
                f"no gateway runs at {self.url}: start it with `{calling()} serve`, or say where it is with --url or NEXUS_URL"
            ) from None
        except http.client.HTTPException:
            raise Failure(f"what answers at {self.url} does not speak HTTP") from None
        except OSError as error:
            raise Failure(f"the gateway at {self.url} cannot be reached: {error.strerror or error}") from None
        except ValueError:  # never its text: it would repeat the key
            raise Failure(f"{self._key_name} holds something that cannot be sent as a key") from None
        finally:
            connection.close()

    def _refused(self, path: str, status: int, answer: dict[str, Any]) -> str:
        error = answer.get("error")
        said = error.get("message") if isinstance(error, dict) else None
        code = error.get("code") if isinstance(error, dict) else None
        which = "an admin key" if path.startswith(FOR_ADMINS) else "a key"
        hint = f"; put {which} into {self._key_name}" if code in ABOUT_THE_KEY else ""
        return f"the gateway at {self.url} answered {status}: {said or 'no reason given'}{hint}"
