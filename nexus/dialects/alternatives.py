"""A JSON schema as the list of its alternatives, each without `anyOf`, `oneOf`, `allOf`, conditions and references of its own.

Combined objects must be looked at as one: two of `allOf` that each closed their members would leave nothing that is valid.  What is
made of the alternatives is never stricter than the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

Schema = Mapping[str, Any]

MOST_NODES = 20_000  # looked at, of one schema
_MOST_ALTERNATIVES = 64  # of one node
_MOST_TURNS = 50  # of references and combinations within each other
TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_COMBINING = frozenset({"anyOf", "oneOf", "allOf", "if", "then", "else", "dependentSchemas", "$ref"})
_WORDS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "$comment", "$schema", "$id", "$defs", "definitions"}
)
_OF_OBJECTS = ("properties", "required", "additionalProperties", "patternProperties")
_OF_ARRAYS = ("items", "prefixItems")


class Unfit(ValueError):
    """A schema that cannot be said: why, for people."""


def types_of(node: Schema) -> tuple[str, ...]:
    """The types that a node allows; () where it says none.  One that only speaks of members is taken for an object, as is meant."""
    said = node.get("type")
    kinds = tuple(kind for kind in TYPES if kind == said or (isinstance(said, list) and kind in said))
    if said is not None:
        if not kinds:
            raise Unfit("it has a type that is none")
        return kinds
    if any(keyword in node for keyword in _OF_OBJECTS):
        return ("object",)
    return ("array",) if any(keyword in node for keyword in _OF_ARRAYS) else ()


class Alternatives:
    """Of the schemas within one `root`.  `drop` is told of the keywords that got lost on the way."""

    def __init__(self, root: Any, drop: Callable[[str], None]) -> None:
        self._root = root
        self._drop = drop
        self._nodes = 0

    def of(self, schema: Any, *, whole: bool = False) -> list[dict[str, Any]]:
        """The alternatives.  A reference that stands alone stays one, unless `whole`.  Raises Unfit."""
        nodes = self._of(schema, ())
        return [inner for node in nodes for inner in self._resolved(node, ())] if whole else nodes

    def at(self, ref: str) -> Any:
        """What a reference within the schema leads to.  Raises Unfit."""
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise Unfit("it refers to another document")
        found = self._root
        for step in unquote(ref[1:]).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isascii() and key.isdigit() and int(key[:6]) < len(found):
                found = found[int(key[:6])]
            else:
                raise Unfit("it refers to what is not there")
        return found

    def _of(self, schema: Any, way: tuple[str, ...]) -> list[dict[str, Any]]:
        self._nodes += 1
        if self._nodes > MOST_NODES or len(way) > _MOST_TURNS:
            raise Unfit("it is too deep or too large")
        if schema is True:
            return [{}]
        if schema is False:
            return []
        if not isinstance(schema, Mapping):
            raise Unfit("a part of it is no schema")
        own = {name: value for name, value in schema.items() if name not in _COMBINING}
        several = self._several(schema, (*way, ""))
        if "$ref" in schema:
            self.at(schema["$ref"])
            if not several and not (own.keys() - _WORDS):
                return [{"$ref": schema["$ref"]}]
            several.append(self._resolved({"$ref": schema["$ref"]}, way))
        if len(several) == 1 and not (own.keys() - _WORDS):
            return several[0]
        return self._product(own, several, way)

    def _several(self, schema: Schema, way: tuple[str, ...]) -> list[list[dict[str, Any]]]:
        """What must hold beside the node's own words, each as alternatives."""
        found = [self._of(inner, way) for inner in _list(schema.get("allOf"))]
        found += [self._any(_list(schema[keyword]), way) for keyword in ("anyOf", "oneOf") if _list(schema.get(keyword))]
        if "if" in schema and ("then" in schema or "else" in schema):
            self._drop("if")
            found.append(self._any([{"allOf": [schema["if"], schema.get("then", True)]}, schema.get("else", True)], way))
        depending = schema.get("dependentSchemas")
        for inner in depending.values() if isinstance(depending, Mapping) else ():
            self._drop("dependentSchemas")
            found.append(self._any([True, inner], way))
        if "oneOf" in schema and len(_list(schema["oneOf"])) > 1:
            self._drop("oneOf")
        return found

    def _any(self, schemas: Iterable[Any], way: tuple[str, ...]) -> list[dict[str, Any]]:
        return _bounded([node for schema in schemas for node in self._of(schema, way)])

    def _product(self, own: dict[str, Any], several: list[list[dict[str, Any]]], way: tuple[str, ...]) -> list[dict[str, Any]]:
        nodes = [own]
        for others in several:
            resolved = [inner for other in others for inner in self._resolved(other, way)]
            nodes = _bounded([made for node in nodes for other in resolved if (made := self._both(node, other)) is not None])
        return nodes

    def _resolved(self, node: dict[str, Any], way: tuple[str, ...]) -> list[dict[str, Any]]:
        """A node that is a reference becomes what it leads to."""
        ref = node.get("$ref")
        if ref is None:
            return [node]
        if ref in way:
            raise Unfit("it leads to itself")
        way = (*way, ref)
        return [inner for made in self._of(self.at(ref), way) for inner in self._resolved(made, way)]

    def _both(self, one: Schema, other: Schema) -> dict[str, Any] | None:
        """A node that is valid where both are, or looser; None where nothing is."""
        made = {**other, **one}
        for keyword in one.keys() & other.keys():
            first, second = one[keyword], other[keyword]
            if first == second:
                continue
            if keyword == "properties" and isinstance(first, Mapping) and isinstance(second, Mapping):
                made[keyword] = {**second, **first} | {
                    name: {"allOf": [first[name], second[name]]}
                    for name in first.keys() & second.keys()
                    if first[name] != second[name]
                }
            elif keyword == "required":
                made[keyword] = [*_list(first), *_list(second)]
            elif keyword == "additionalProperties":
                made[keyword] = False if first is False or second is False else first
            elif keyword == "items" and isinstance(first, Mapping) and isinstance(second, Mapping):
                made[keyword] = {"allOf": [first, second]}
            elif keyword == "enum" and isinstance(first, list) and isinstance(second, list):
                made[keyword] = [value for value in first if value in second]
            elif keyword not in _WORDS and keyword != "type":
                self._drop(keyword)  # the second one's
        if "type" in one and "type" in other:
            kinds = _common(types_of(one), types_of(other))
            if not kinds:
                return None
            made["type"] = list(kinds)
        return made if made.get("enum") != [] else None


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """What both allow; an integer is a number, too."""
    both = [kind for kind in first if kind in second]
    if "integer" not in both and (("integer" in first and "number" in second) or ("number" in first and "integer" in second)):
        both.append("integer")
    return tuple(both)


def _bounded(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(nodes) > _MOST_ALTERNATIVES:
        raise Unfit("it has too many alternatives")
    return nodes


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
