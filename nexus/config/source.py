"""A file, a text or a mapping becomes plain Python values.  Only home of tomlkit; what the values mean is not known here."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from nexus.config import slips, twice
from nexus.errors import ConfigError, Mistake

DEFAULT_FILE = "nexus.toml"
TOO_DEEP = "it is nested too deeply"


class Plain(msgspec.Struct, frozen=True, kw_only=True):
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
    except RecursionError:
        line, message = _deepest(text), TOO_DEEP
    except tomllib.TOMLDecodeError as error:
        if found := twice.said(error, text):
            line, message = found
        else:
            return _parse_patiently(text, path, twice.line_of(error, text))
    raise _no_toml(line, message, path)


def _parse_patiently(text: str, path: Path | None, line: int) -> dict[str, Any]:
    """`line` is where the standard library stopped, for what tomlkit has no line for."""
    import tomlkit
    from tomlkit.exceptions import ParseError, TOMLKitError

    try:
        return tomlkit.parse(text).unwrap()
    except ParseError as error:
        line, message = error.line, str(error)
    except TOMLKitError as error:
        message = str(error)
    except RecursionError:
        raise _no_toml(_deepest(text), TOO_DEEP, path) from None
    lines = text.replace("\r\n", "\n").split("\n")
    line = min(line, len(lines))
    start = twice.beginning(lines, line)
    if start == line:
        raise _no_toml(line, slips.told(lines[line - 1], message), path) from None
    raise _no_toml(line, f"{slips.sentence(message)}, in what begins in line {start}", path) from None


def _no_toml(line: int, message: str, path: Path | None) -> ConfigError:
    return ConfigError([Mistake(place=f"line {line}", message=f"this is not TOML: {message}")], path)


def _deepest(text: str) -> int:
    """The line that opens the most brackets."""
    lines = text.split("\n")
    return 1 + max(range(len(lines)), key=lambda at: lines[at].count("[") + lines[at].count("{"))
