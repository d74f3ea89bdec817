"""The request that `nexus explain` asks about, made from its flags.  What becomes of it is the gateway's to say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from nexus.cli.failure import Failure

# One white pixel: what counts is that there is a picture.
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg=="
TOOL = {"type": "function", "function": {"name": "a_tool", "parameters": {"type": "object", "properties": {}}}}
ANTHROPICS_TOOL = {"name": "a_tool", "input_schema": {"type": "object", "properties": {}}}
Json = dict[str, Any]


def question(
    model: str | None,
    *,
    prompt: str | None,
    stream: bool,
    image: bool,
    tools: bool,
    zone: str | None,
    priority: str | None,
    strict: bool,
    flexible: bool,
    key_name: str | None,
    path: str,
    body: Path | None,
) -> Json:
    """What `POST /nexus/explain` takes.  Raises UsageError, or Failure where the body cannot be read."""
    request = _read(body) if body is not None else _written(prompt or "Hello", path)
    if model is not None:
        request["model"] = model
    if "model" not in request:
        raise click.UsageError("Name a MODEL, or give --body FILE or --request ID.")
    if stream:
        request["stream"] = True
    if tools:
        request.setdefault("tools", [ANTHROPICS_TOOL if _is_anthropics(path) else TOOL])
    if image:
        _add_image(request, path)
    headers = {"x-nexus-zone": zone, "x-nexus-priority": priority, "x-nexus-strict": strict, "x-nexus-flexible": flexible}
    given = {name: "true" if value is True else value for name, value in headers.items() if value}
    asked: Json = {"request": request, "headers": given, "path": path}
    return asked if key_name is None else {**asked, "key": key_name}


def _written(prompt: str, path: str) -> Json:
    """A small request of the endpoint's kind.  Raises UsageError for one whose kind is not known here."""
    if path.endswith("/embeddings"):
        return {"input": prompt}
    if path.endswith("/chat/completions") or _is_anthropics(path):
        return {"messages": [{"role": "user", "content": prompt}]}
    if path.endswith("/completions"):
        return {"prompt": prompt}
    raise click.UsageError(f"What a request to {path} looks like is not known here: give one with --body FILE.")


def _is_anthropics(path: str) -> bool:
    return path.endswith(("/messages", "/messages/count_tokens"))


def _add_image(request: Json, path: str) -> None:
    messages = request.get("messages")
    if not isinstance(messages, list):
        raise click.UsageError("--image needs a chat: a request with messages.")
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL.partition(",")[2]}
    picture: Json = {"type": "image_url", "image_url": {"url": PIXEL}}
    if _is_anthropics(path):
        picture = {"type": "image", "source": source}
    messages.append({"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]})


def _read(file: Path) -> Json:
    name = "stdin" if str(file) == "-" else str(file)
    try:
        with click.open_file(str(file), encoding="utf-8") as stream:
            request = json.load(stream)
    except OSError as error:
        raise Failure(f"{name} cannot be read: {error.strerror or type(error).__name__}") from None
    except (ValueError, RecursionError):
        raise Failure(f"{name} is not JSON") from None
    if not isinstance(request, dict):
        raise Failure(f"{name} must hold the JSON object that a client would send")
    return request
