"""Plain values into frozen classes, strictly: nothing is guessed or converted, and every mistake is found.  Only home of cattrs.

It knows no table by name; a plugin's options class goes through here too.
"""

from __future__ import annotations

import enum
import functools
import math
import os
import re
import types
from collections.abc import Callable, Collection, Mapping, MutableMapping, MutableSequence, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

import attrs

from nexus.config.mistakes import Mistakes, Wrong, given, join, nearest, quoted, secretive, shown, wrong

if TYPE_CHECKING:
    import cattrs

T = TypeVar("T")
LISTS = (tuple, list, set, frozenset, Sequence, MutableSequence)
TABLES = (dict, Mapping, MutableMapping)
NUMBER = re.compile(r"[+-]?[\d_]*\.?\d+\s*([A-Za-zµ%]*)")
WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    Path: "a path",
    type(None): "nothing",
}


def structure(value: Any, wanted: Any) -> Any:
    """`value` as a `wanted`, which is any type an options class may name.  Raises Wrong."""
    try:
        return (_reader(wanted) or _converter().structure)(value, wanted)
    except Exception as error:
        raise _as_wrong(error, value) from None


def keys(cls: type) -> dict[str, attrs.Attribute[Any]]:
    """The keys that a table of this class may have, with their attributes, types resolved.  Raises NameError for a type
    that only a type checker can see."""
    fields = attrs.fields(attrs.resolve_types(cls))
    return {f.alias or f.name: f for f in fields if f.init and f.metadata.get("toml", True)}


def build(cls: type[T], raw: Any, place: str, mistakes: Mistakes) -> T | None:
    """An instance from a table, or None where that is impossible.  A wrong value is reported, and replaced by its default so
    that the rest can still be looked at; whoever goes on must ask `mistakes` first."""
    if not isinstance(raw, Mapping):
        several = isinstance(raw, list) and raw and all(isinstance(item, Mapping) for item in raw)
        mistakes.add(
            place,
            f"expected one table, written [{place}], got a list of tables" if several else f"expected a table, got {given(raw)}",
        )
        return None
    try:
        fields = keys(cls)
    except Exception as error:
        mistakes.add(place, f"the options class {cls.__name__} cannot be read: {type(error).__name__}: {error}")
        return None
    meant = [mistakes.unknown(place, str(key), fields) for key in raw if key not in fields]
    values = {key: value for key, field in fields.items() for value in _read(field, key, raw, place, mistakes)}
    needed = {key for key, field in fields.items() if field.default is attrs.NOTHING}
    doubtful = (needed.union(raw, (key for key in meant if key)) & fields.keys()) - values.keys()
    if doubtful:
        _judge_half(cls, values, doubtful, place, mistakes)
    return _instance(cls, values, place, mistakes, quiet=bool(doubtful))


def _read(field: attrs.Attribute[Any], key: str, raw: Mapping[str, Any], place: str, mistakes: Mistakes) -> list[Any]:
    """The value of one key, or nothing where its default is to be taken."""
    where = join(place, quoted(key))
    if key not in raw:
        if field.default is attrs.NOTHING:
            mistakes.add(where, "is missing")
        return []
    try:
        value = structure(raw[key], field.type if field.type is not None else Any)
        _validate(field, value)
    except Wrong as error:
        mistakes.include(where, error)
        _judge_others(field, raw[key], error, where, mistakes)
        return []
    return [value]


def _judge_others(field: attrs.Attribute[Any], value: Any, error: Wrong, place: str, mistakes: Mistakes) -> None:
    """The elements of a list that are of the right type although `error` says that others are not."""
    bad = {int(m.place[1:].partition("]")[0]) for m in error.mistakes if m.place.startswith("[")}
    if not bad or not isinstance(value, (list, tuple)):
        return
    places = [i for i in range(len(value)) if i not in bad]
    try:
        _validate(field, structure([value[i] for i in places], field.type))
    except Wrong as others:
        for mistake in others.mistakes:
            index, _, rest = mistake.place.removeprefix("[").partition("]")
            if index:
                mistakes.add(f"{place}[{places[int(index)]}]{rest}", mistake.message, mistake.nearest)


def _validate(field: attrs.Attribute[Any], value: Any) -> None:
    """What the class itself would say of the value.  A check that looks at other attributes waits for the instance."""
    if field.validator is None or field.converter is not None:
        return
    try:
        field.validator(None, field, value)
    except AttributeError:
        return
    except Exception as error:
        raise _as_wrong(error, value) from None


def _judge_half(cls: type, values: Mapping[str, Any], doubtful: Collection[str], place: str, mistakes: Mistakes) -> None:
    """The checks across attributes, of an instance that lacks the doubtful ones: a check that looks at one of these is passed over,
    since what it said would only be the echo of a mistake that is told already."""
    half: Any = object.__new__(cls)
    checks: list[Callable[[], object]] = []
    for field in attrs.fields(cls):
        key = field.alias or field.name
        value = values.get(key, field.default)
        if isinstance(value, attrs.Factory):  # type: ignore[arg-type]
            value = attrs.NOTHING if value.takes_self else value.factory()
        if key in doubtful or value is attrs.NOTHING:
            continue
        object.__setattr__(half, field.name, value)
        if key in values and field.validator and not field.converter:
            checks.append(functools.partial(field.validator, half, field, value))
    if hasattr(half, "__attrs_post_init__"):
        checks.append(half.__attrs_post_init__)
    for check in checks:
        try:
            check()
        except ValueError as error:
            mistakes.include(place, _as_wrong(error, None))
        except Exception:  # noqa: S112 (it looked at what is not there)
            continue


def _instance(cls: type[T], values: Mapping[str, Any], place: str, mistakes: Mistakes, *, quiet: bool) -> T | None:
    try:
        return cls(**values)
    except Exception as error:
        if not quiet:
            mistakes.include(place, _as_wrong(error, None))
        return None


def _as_wrong(error: Exception, value: Any) -> Wrong:
    """What a class, a validator or cattrs raised, in our words and without a secret."""
    if isinstance(error, Wrong):
        return error
    if isinstance(error, ExceptionGroup):
        return Wrong([m for e in error.exceptions for m in _as_wrong(e, value).mistakes])
    message = str((error.args and error.args[0]) or error or type(error).__name__)
    if isinstance(value, str) and value and (secretive(value) or secretive(message)):
        message = message.replace(value, "***")
    return wrong(message)


# ---------------------------------------------------------------- hooks


def _reader(wanted: Any) -> Callable[[Any, Any], Any] | None:
    """Which of the hooks below reads a type; None where it is for cattrs to know, as of a date."""
    if wanted is object or wanted is Any:
        return _as_it_is
    if not isinstance(wanted, type):
        return _ORIGINS.get(get_origin(wanted))
    return next((read for kind, read in _CLASSES.items() if issubclass(wanted, kind)), _nested if attrs.has(wanted) else None)


@functools.cache
def _converter() -> cattrs.Converter:
    """Made for the first type without a hook of ours: importing cattrs takes a twentieth of a second and a megabyte."""
    import cattrs

    converter = cattrs.Converter(forbid_extra_keys=True)
    # cattrs asks hooks of classes, by inheritance, before it asks those of predicates.
    for kind, read in _CLASSES.items():
        converter.register_structure_hook(kind, read)
    converter.register_structure_hook_func(lambda t: _reader(t) is not None, structure)
    return converter


def _as_it_is(value: Any, wanted: Any) -> Any:
    return value


def _plain(value: Any, wanted: type) -> Any:
    if issubclass(wanted, enum.Enum):  # class Word(str, Enum)
        return _word(value, wanted)
    if type(value) is not wanted:
        raise wrong(f"expected {WORDS[wanted]}, got {given(value)}{_slip(value, wanted)}")
    return value


def _slip(value: Any, wanted: Any) -> str:
    """What to do where the value is a text that holds what was wanted."""
    if wanted is str or not isinstance(value, str):
        return ""
    if wanted is bool:
        return ": write it without quotes" if value in ("true", "false") else ""
    number = NUMBER.fullmatch(value.strip())
    return "" if not number else ": write the number alone, without its unit" if number[1] else ": write it without quotes"


def _number(value: Any, wanted: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise wrong(f"expected a number, got {given(value)}{_slip(value, float)}")
    return float(value)


def _path(value: Any, wanted: Any) -> Path:
    if isinstance(value, os.PathLike):
        return Path(value)
    if not isinstance(value, str) or not value or "\0" in value:
        raise wrong(f"expected a path, got {given(value)}")
    return Path(value).expanduser()


def _word(value: Any, wanted: type[enum.Enum]) -> enum.Enum:
    for member in wanted:
        if value == member.value:
            return member
    raise _none_of(value, [m.value for m in wanted])


def _literal(value: Any, wanted: Any) -> Any:
    for word in get_args(wanted):
        if value == word and type(value) is type(word):
            return value
    raise _none_of(value, get_args(wanted))


def _none_of(value: Any, words: Collection[Any]) -> Wrong:
    texts = [str(w) for w in words]
    return wrong(
        f"expected one of {', '.join(texts)}, got {given(value)}", nearest(value, texts) if isinstance(value, str) else None
    )


def _list(value: Any, wanted: Any) -> Any:
    if not isinstance(value, (list, tuple, set, frozenset)):
        alone = f": write it in brackets, as [{shown(value)}]" if isinstance(value, str) and shown(value) == f"'{value}'" else ""
        raise wrong(f"expected a list, got {given(value)}{alone}")
    origin, arguments = get_origin(wanted), [a for a in get_args(wanted) if a is not Ellipsis]
    if origin is tuple and Ellipsis not in get_args(wanted):
        if len(arguments) != len(value):
            raise wrong(f"expected a list of {len(arguments)}, got {len(value)}")
    else:
        arguments = arguments * len(value)
    items = _all([(f"[{i}]", item, kind) for i, (item, kind) in enumerate(zip(value, arguments, strict=True))])
    return (origin if origin in (set, frozenset, list) else tuple)(items)


def _table(value: Any, wanted: Any) -> Any:
    if not isinstance(value, Mapping):
        raise wrong(f"expected a table, got {given(value)}")
    kind = get_args(wanted)[1]
    return dict(zip(value, _all([(quoted(str(key)), item, kind) for key, item in value.items()]), strict=True))


def _all(items: Sequence[tuple[str, Any, Any]]) -> list[Any]:
    """Every (place, value, type) structured; all that is wrong with them at once."""
    mistakes, values = Mistakes(), []
    for place, item, kind in items:
        try:
            values.append(structure(item, kind))
        except Wrong as error:
            mistakes.include(place, error)
    if mistakes.found:
        raise Wrong(mistakes.found)
    return values


def _either(value: Any, wanted: Any) -> Any:
    """The first arm that takes the value.  With one real arm, its own words say what is wrong."""
    arms = [a for a in get_args(wanted) if a is not type(None)]
    if value is None and len(arms) < len(get_args(wanted)):
        return None
    if len(arms) == 1:
        return structure(value, arms[0])
    for arm in arms:
        try:
            return structure(value, arm)
        except Wrong:
            continue
    raise wrong(f"expected {' or '.join(expected(a) for a in arms)}, got {given(value)}")


def _nested(value: Any, wanted: type[Any]) -> Any:
    mistakes = Mistakes()
    made = build(wanted, value, "", mistakes)
    if mistakes.found or made is None:
        raise Wrong(mistakes.found)
    return made


_CLASSES: Mapping[type, Callable[[Any, Any], Any]] = {
    **dict.fromkeys((enum.Enum, enum.StrEnum, enum.IntEnum), _word),
    **dict.fromkeys((bool, int, str), _plain),
    float: _number,
    Path: _path,
}
_ORIGINS: Mapping[Any, Callable[[Any, Any], Any]] = {
    Literal: _literal,
    **dict.fromkeys(LISTS, _list),
    **dict.fromkeys(TABLES, _table),
    **dict.fromkeys((Union, types.UnionType), _either),
}


def expected(wanted: Any) -> str:
    """A type, in words."""
    if wanted in WORDS:
        return WORDS[wanted]
    origin = get_origin(wanted)
    if origin in LISTS:
        return "a list"
    if origin in (Union, types.UnionType):
        return " or ".join(expected(a) for a in get_args(wanted) if a is not type(None))
    if origin is Literal:
        return " or ".join(str(a) for a in get_args(wanted))
    if isinstance(wanted, type) and issubclass(wanted, enum.Enum):
        return " or ".join(str(m.value) for m in wanted)
    return "a table" if origin in TABLES or (isinstance(wanted, type) and attrs.has(wanted)) else shown(str(wanted))
