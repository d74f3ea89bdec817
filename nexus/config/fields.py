"""How a key of a table is declared, and the checks that its value must pass.  Which keys there are is in `tables`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import attrs

from nexus.config.mistakes import Wrong, nearest, secretive, shown, wrong

Check = Callable[[Any], None]
MISSING = attrs.NOTHING


def setting(default: Any, meaning: str, *checks: Check, toml: bool = True, freeze: bool = False) -> Any:
    """An attribute that is a key of the file.  `meaning` is what the reference page and `nexus config init` say of it.

    `toml=False` marks what loading fills in and the file cannot give; `freeze` keeps a mapping from being changed.
    """
    return attrs.field(
        default=default,
        converter=_freeze if freeze else None,
        validator=[_optional(check) for check in checks] or None,
        metadata={"meaning": meaning, "toml": toml},
    )


def _freeze(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return value if isinstance(value, MappingProxyType) else MappingProxyType(dict(value))


def _optional(check: Check) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def validate(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is not None:
            check(value)

    return validate


# ---------------------------------------------------------------- checks: each raises Wrong


def at_least(low: float) -> Check:
    def check(value: float) -> None:
        if value < low:
            raise wrong(f"must be at least {low}, not {value}")

    return check


def above(low: float) -> Check:
    def check(value: float) -> None:
        if value <= low:
            raise wrong(f"must be more than {low}, not {value}")

    return check


def between(low: float, high: float) -> Check:
    def check(value: float) -> None:
        if not low <= value <= high:
            raise wrong(f"must be between {low} and {high}, not {value}")

    return check


def one_of(*words: str) -> Check:
    def check(value: str) -> None:
        if value not in words:
            raise wrong(f"must be one of {', '.join(words)}, not {shown(value)}", nearest(value, words))

    return check


def each(check_one: Check) -> Check:
    """The check for every element of a list; the place names the element."""

    def check(values: tuple[Any, ...]) -> None:
        found = []
        for index, value in enumerate(values):
            try:
                check_one(value)
            except Wrong as error:
                found += [attrs.evolve(m, place=f"[{index}]{m.place}") for m in error.mistakes]
        if found:
            raise Wrong(found)

    return check


def distinct(values: tuple[str, ...]) -> None:
    """No element twice."""
    twice = [index for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise wrong(f"{shown(values[twice[0]])} is there twice", place=f"[{twice[0]}]")


def filled(value: Any) -> None:
    """Not empty."""
    if not (value.strip() if isinstance(value, str) else value):
        raise wrong("must not be empty")


# A backend's name stands in headers, metric labels and URLs; a key's name in logs.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")


def plain_name(value: str) -> None:
    """A name that can stand in a header, a label and a URL."""
    if not NAME.fullmatch(value):
        raise wrong("must be 1 to 64 letters, digits or any of . _ : @ - and begin with a letter or digit")


HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


def host_name(value: str) -> None:
    """An IP address or a host name, without scheme and port."""
    if not HOST.fullmatch(value) and not _parses(ipaddress.ip_address, value):
        raise wrong(f"must be an IP address or a host name alone, not {shown(value)}")


def host_or_network(value: str) -> None:
    """An IP address, a network such as 192.168.1.0/24, or a host name."""
    if "/" not in value:
        host_name(value)
    elif not _parses(ipaddress.ip_network, value):
        raise wrong(f"must be a host name, an address or a network such as 192.168.1.0/24, not {shown(value)}")


def origin(value: str) -> None:
    """What a browser sends as Origin: scheme, host and port, nothing else."""
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#@*]+", value):
        raise wrong(
            f"must be a whole origin such as https://chat.example.org, not {shown(value)}",
            value.rstrip("/") if re.fullmatch(r"https?://[\w.:-]+/+", value) and not secretive(value) else None,
        )


def _parses(parse: Callable[[str], object], value: str) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return True


def web_address(value: str) -> None:
    """An http(s) URL of a server: a host, perhaps a port and a path, no credentials, query or fragment."""
    if re.search(r"\s", value):
        raise wrong("is not a URL: there is a space in it")
    try:
        parts = urlsplit(value)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        raise wrong("is not a URL: look at the host and the port") from None
    if "@" in parts.netloc:
        raise wrong("must not hold a user name or key: put the key into a variable and name it in api_key_env")
    if parts.scheme not in ("http", "https"):
        raise wrong("must begin with http:// or https://", _with_scheme(value))
    if not parts.hostname or not port_ok or re.search(r"[\s\x00-\x1f\x7f\\]", value):
        raise wrong("is not a URL: look at the host and the port", _with_scheme(value))
    if parts.query or parts.fragment:
        raise wrong("must end with the path: no ?query and no #fragment")
    if found := ENDPOINT.search(parts.path):
        raise wrong(f"must end before {found[0]}: Nexus adds the path of each request")


ENDPOINT = re.compile(
    r"/(v\d+\w*/(completions|embeddings|messages|models|responses)|(v\d+\w*/)?chat/completions|api/(chat|generate|tags|embed))/?$"
)


def _with_scheme(value: str) -> str | None:
    guess = re.sub(r"^https?(:/|//|/|:)(?!/)", lambda m: f"{m[0].rstrip(':/')}://", value)
    guess = guess if "://" in guess else f"http://{value}"
    return guess if "://" not in value and not secretive(value) and re.fullmatch(r"https?://[\w.-]+(:\d+)?(/\S*)?", guess) else None


# Upper case, as is usual for variables: a key pasted here by accident is told from a name by its lower-case letters.
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def variable_name(value: str) -> None:
    """The name of an environment variable; the value is never repeated, since it may be the key itself."""
    if not WORD.fullmatch(value):
        named = re.fullmatch(r"\$\{?([A-Z_][A-Z0-9_]{0,63})\}?", value)
        what = "without $ and braces" if named else "not the key itself"
        raise wrong(f"must be the name of an environment variable, {what}", named[1] if named and not secretive(named[1]) else None)


MODULE = re.compile(r"(?!.*\.py$)[^\W\d]\w*(\.[^\W\d]\w*)*")


def module_name(value: str) -> None:
    """A module as `import` takes it."""
    if not MODULE.fullmatch(value):
        stem = value.removeprefix("./").removesuffix(".py")
        near = stem if MODULE.fullmatch(stem) and not secretive(stem) else None
        raise wrong("must be the name of a module, as `import` takes it: no path and no .py", near)


def key_hash(value: str) -> None:
    """A hash as `nexus keys new` prints it."""
    if value.startswith("nx-"):
        raise wrong("this is the key itself: write the hash that `nexus keys new` printed with it, and make a new key")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", value):
        raise wrong("must be a hash as `nexus keys new` prints it: sha256: and 64 hexadecimal digits")
