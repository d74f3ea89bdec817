"""A quicker way to make a frozen value, for those that every request makes.  What the values mean is said in the other files.

attrs sets each field of a frozen class by a call, since an assignment would be refused.  Here the fields are assigned while the
object is, for that moment, of a twin class that refuses nothing; with ten fields and more that takes about half the time.  To call a
class costs as much again, for Python packs what it is given into a dictionary first: what `maker` gives is a plain function.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import attrs

T = TypeVar("T")
P = ParamSpec("P")


def quick(cls: type[T]) -> type[T]:
    """The same frozen class with a quicker `__init__`.  Its subclasses are made as attrs makes them.

    The class must be slotted, keyword-only and without a weak reference's slot; defaults must be plain values.
    Raises TypeError for one that is not.
    """
    slow = cls.__init__
    cls.__init__ = functools.wraps(slow)(_init(cls, slow, _fields(cls)))  # type: ignore[method-assign]
    return cls


def maker(cls: Callable[P, T]) -> Callable[P, T]:
    """What makes the same values as a call of the class, in half the time or less.  The class must be as for `quick`; raises TypeError
    too."""
    fields = _fields(cast(type, cls))
    lines = [
        f"def make(*, {_taken(fields)}):",
        "    self = new(twin)",
        *(f"    self.{f.name} = {f.name}" for f in fields),
        "    self.__class__ = cls",
        "    return self",
    ]
    return _written(lines, "make", fields, new=object.__new__, twin=_twin(cast(type, cls)), cls=cls)


def changer(cls: type[T], *names: str) -> Callable[..., T]:
    """What makes a value as another, given first, is but for the fields of these names, all of which are to be given.  It is to
    `attrs.evolve` as `maker` is to a call of the class."""
    fields = _fields(cls)
    lines = [
        f"def changed(old, *, {', '.join(names)}):",
        "    self = new(twin)",
        *(f"    self.{f.name} = {f.name if f.name in names else f'old.{f.name}'}" for f in fields),
        "    self.__class__ = cls",
        "    return self",
    ]
    return _written(lines, "changed", fields, new=object.__new__, twin=_twin(cls), cls=cls)


def _fields(cls: type) -> tuple[attrs.Attribute[Any], ...]:
    slots = vars(cls).get("__slots__", ("__weakref__",))
    if "__weakref__" in slots or hasattr(cls, "__attrs_post_init__") or hasattr(cls, "__attrs_pre_init__"):
        raise TypeError(f"{cls.__name__} has no slots, one for weak references, or does more than keep its fields")
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(cls)
    if not all(map(_is_plain, fields)):
        raise TypeError(f"{cls.__name__} has a field that is more than a plain one")
    return fields


def _is_plain(field: attrs.Attribute[Any]) -> bool:
    made = type(field.default).__name__ == "Factory"
    return field.init and field.kw_only and field.alias == field.name and not (field.validator or field.converter or made)


def _twin(cls: type) -> type:
    """A class whose objects lie in memory as those of `cls` do, and can be written.  No object is of it for longer than it is made."""
    open_again = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(cls.__name__, cls.__bases__, {"__slots__": cls.__dict__["__slots__"], **open_again})


def _init(cls: type, slow: Callable[..., None], fields: tuple[attrs.Attribute[Any], ...]) -> Callable[..., None]:
    given = ", ".join(f"{f.name}={f.name}" for f in fields)
    lines = [
        f"def __init__(self, *, {_taken(fields)}):",
        "    if self.__class__ is not cls:",
        f"        return slow(self, {given})",
        "    become(self, twin)",
        *(f"    self.{f.name} = {f.name}" for f in fields),
        "    self.__class__ = cls",
    ]
    become = object.__dict__["__class__"].__set__
    return _written(lines, "__init__", fields, cls=cls, slow=slow, twin=_twin(cls), become=become)


def _taken(fields: tuple[attrs.Attribute[Any], ...]) -> str:
    """The fields as parameters."""
    return ", ".join(f"{f.name}=default_{f.name}" if f.default is not attrs.NOTHING else f.name for f in fields)


def _written(lines: list[str], name: str, fields: tuple[attrs.Attribute[Any], ...], **known: Any) -> Callable[..., Any]:
    """The function of these lines, which know the fields' defaults and what else is given."""
    known |= {f"default_{f.name}": f.default for f in fields if f.default is not attrs.NOTHING}
    exec("\n".join(lines), known)  # noqa: S102 - as attrs itself does: names of fields, no input
    made: Callable[..., Any] = known[name]
    return made
