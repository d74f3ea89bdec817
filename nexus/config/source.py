"""A file, a text or a mapping becomes plain Python values.  Only home of tomlkit; what the values mean is not known here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from nexus.config.mistakes import quoted
from nexus.errors import ConfigError, Mistake

DEFAULT_FILE = "nexus.toml"
BARE = re.compile(r"\s*([\w.-]+)\s*=\s*(?!(?:true|false|[+-]?inf|[+-]?nan)\s*(?:#|$))[^\W\d][^\"'\[\]{}=]*")
ODD_KEY = re.compile(r"\s*([^\s\"'=\[\]{}#]*[^\s\"'=\[\]{}#\w.-][^\s\"'=\[\]{}#]*)\s*=.*", re.ASCII)


@attrs.frozen(kw_only=True)
class Plain:
    """What was written: `raw` is made of dict, list and plain values alone; `text` is the TOML where there is one."""

    raw: dict[str, Any]
    text: str | None = None
    path: Path | None = None


def plain(source: Path | str | Mapping[str, Any] | None) -> Plain:
    """What `source` says.  None looks for ./nexus.toml, which need not be there.  Raises ConfigError."""
    if source is None:
        source = Path(DEFAULT_FILE)
        if not source.exists():
            return Plain(raw={})
    if isinstance(source, Mapping):
        return Plain(raw=_copy(source))
    if isinstance(source, str):
        return Plain(raw=_parse(source), text=source)
    text = _text(source)
    return Plain(raw=_parse(text, source.absolute()), text=text, path=source.absolute())


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, (list, tuple)) else value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        message = "there is no such file"
    except IsADirectoryError:
        message = "this is a directory, not a file"
    except UnicodeDecodeError:
        message = "the file is not UTF-8 text"
    except OSError as error:
        message = f"the file cannot be read: {error.strerror or type(error).__name__}"
    raise ConfigError([Mistake(place=str(path), message=message)])


def _parse(text: str, path: Path | None = None) -> dict[str, Any]:
    """What the standard library reads is read; tomlkit, which takes a twentieth of a second and a megabyte to load, says what is wrong
    with the rest and where."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return _parse_patiently(text, path)


def _parse_patiently(text: str, path: Path | None) -> dict[str, Any]:
    import tomlkit
    from tomlkit.exceptions import ParseError, TOMLKitError

    place, message = "text", "is nested too deeply"
    try:
        return tomlkit.parse(text).unwrap()
    except ParseError as error:
        place, message = f"line {error.line}", _unquoted(text, error.line) or _sentence(str(error))
    except TOMLKitError as error:
        message = _sentence(str(error))
    except RecursionError:
        pass
    raise ConfigError([Mistake(place=place, message=f"this is not TOML: {message}")], path) from None


def _unquoted(text: str, line: int) -> str:
    """What to write where a text, or a name with more than letters, digits, _, - in it, stands without quotes, the usual slips.  The text itself may be a secret, and is not repeated."""
    lines = text.splitlines()
    found = BARE.fullmatch(lines[line - 1]) if 0 < line <= len(lines) else None
    if found:
        return f'a text needs quotes: {found[1]} = "…"'
    odd = ODD_KEY.fullmatch(lines[line - 1]) if 0 < line <= len(lines) else None
    return f"a name with such letters needs quotes: {quoted(odd[1])} = …" if odd else ""


def _sentence(message: str) -> str:
    message = re.sub(r" at line \d+ col \d+$", "", message).rstrip(".")
    if r"\x00" in message:
        return "something is missing at the end"
    return message[:1].lower() + message[1:]
