"""A JSON schema made to fit what a server takes (`SchemaRules`).  It becomes looser where it cannot be said, never stricter: what is valid
by the client's schema, and has no members that it does not name, is valid by the server's.

What is taken out is told to the model in the description, as Anthropic's own SDKs do it.  Schemas as alternatives are in `alternatives`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nexus.dialects.alternatives import MOST_NODES, Alternatives, Schema, Unfit, types_of
from nexus.model import SchemaRules

MOST_LEVELS = 50  # of a schema; every interpreter can go down so far
_SCALAR = (str, int, float, bool, type(None))
_NUMBERS = frozenset({"multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
_SHAPE = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "$ref", "$defs", "definitions"}
)
_UNTOLD = frozenset({"$schema", "$id", "id", "$comment", "$anchor", "$defs", "definitions"})
"""What says nothing of values."""


def fitted_schema(schema: Any, rules: SchemaRules) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The schema as the server takes it, and the keywords that are not in it any more.  Raises Unfit where too little would be left."""
    fitting = _Fitting(schema, rules)
    return fitting.root(), tuple(fitting.dropped)


class _Fitting:
    """One schema on its way; gathers the keywords that are dropped and the definitions that are needed."""

    def __init__(self, root: Any, rules: SchemaRules) -> None:
        self.rules = rules
        self.dropped: dict[str, None] = {}
        self._alternatives = Alternatives(root, self._drop)
        self._root = root
        self._defs: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._open: set[str] = set()  # definitions that are being written
        self._nodes = 0
        self._properties = 0

    def _drop(self, keyword: str) -> None:
        self.dropped.setdefault(keyword)

    def root(self) -> dict[str, Any]:
        made = self._fit(self._root, 0)
        if self.rules.root_object:
            if "$ref" in made:
                made = dict(self._defs[made["$ref"].rpartition("/")[2]])
            if made.get("type") != "object":
                raise Unfit("its top is no single object")
        if self._defs:
            made["$defs"] = self._defs
        if self.rules.properties is not None and self._properties > self.rules.properties:
            raise Unfit("it has too many properties")
        return made

    def _fit(self, schema: Any, level: int) -> dict[str, Any]:
        self._nodes += 1
        deepest = MOST_LEVELS if self.rules.depth is None else self.rules.depth * 2 + 1  # an array's items are a level of ours, too
        if level > deepest or self._nodes > MOST_NODES:
            raise Unfit("it is too deep or too large")
        nodes = self._alternatives.of(schema)
        if not nodes:
            raise Unfit("nothing is valid by it")
        if len(nodes) == 1:
            return self._flat(nodes[0], level)
        if "anyOf" not in self.rules.keywords:
            raise Unfit("it has alternatives")
        said: dict[str, Any] = {"anyOf": [self._flat(node, level) for node in nodes]}
        for word in ("title", "description"):
            if isinstance(schema.get(word), str):
                said[word] = schema[word]
        return said

    # ---------------------------------------------------------------- one node, without alternatives

    def _flat(self, node: Schema, level: int) -> dict[str, Any]:
        if "$ref" in node:
            return {"$ref": f"#/$defs/{self._definition(node['$ref'], level)}"}
        made: dict[str, Any] = {}
        untold: dict[str, Any] = {}
        kinds = types_of(node)
        if kinds:
            made["type"] = kinds[0] if len(kinds) == 1 else list(kinds)
        self._values(node, made, untold)
        if not made:
            raise Unfit("a value may be of any type")
        if "object" in kinds:
            self._object(node, made, untold, level)
        if "array" in kinds:
            self._array(node, made, untold, level)
        for keyword, value in node.items():
            if keyword in made or keyword in untold or keyword in _SHAPE or keyword in _UNTOLD or keyword == "prefixItems":
                continue
            kept = self._kept(keyword, value)
            if kept is not None:
                made[keyword] = kept
            if kept != value:
                untold[keyword] = value
        return self._told(made, untold)

    def _values(self, node: Schema, made: dict[str, Any], untold: dict[str, Any]) -> None:
        for keyword in ("enum", "const"):
            if keyword not in node:
                continue
            values = node[keyword] if keyword == "enum" else [node[keyword]]
            plain = isinstance(values, list) and all(isinstance(value, _SCALAR) for value in values)
            if plain and values and keyword in self.rules.keywords:
                made[keyword] = node[keyword]
            else:
                untold[keyword] = node[keyword]

    def _object(self, node: Schema, made: dict[str, Any], untold: dict[str, Any], level: int) -> None:
        """Servers that close objects leave no place for members of any name."""
        more, named = node.get("additionalProperties"), node.get("properties")
        if self.rules.closed and (
            node.get("patternProperties") or isinstance(more, Mapping) or (more is not False and not isinstance(named, Mapping))
        ):
            raise Unfit("an object may have members of any name")
        if more is True:
            untold["additionalProperties"] = True
        properties = {
            name: self._fit(inner, level + 1)
            for name, inner in (named if isinstance(named, Mapping) else {}).items()
            if inner is not False
        }
        self._properties += len(properties)
        required = [name for name in _words(node.get("required")) if name in properties]
        if self.rules.all_required and len(set(required)) < len(properties):
            raise Unfit("a property may be missing")
        made |= {"properties": properties, "additionalProperties": False}
        if required:
            made["required"] = list(dict.fromkeys(required))

    def _array(self, node: Schema, made: dict[str, Any], untold: dict[str, Any], level: int) -> None:
        """Items one by one (`prefixItems`, or a list as older drafts have it) become items of one of these kinds."""
        items, first = node.get("items"), node.get("prefixItems")
        if isinstance(items, list):
            first, items = items, node.get("additionalItems")
        if isinstance(first, list) and first:
            untold["prefixItems"] = first
            kinds = [*first, *([items] if items is not False else [])]
            items = {"anyOf": kinds} if all(isinstance(kind, Mapping) for kind in kinds) else None
        if isinstance(items, Mapping) and items:
            made["items"] = self._fit(items, level + 1)
        elif self.rules.typed_items:
            raise Unfit("an array may hold anything")

    def _kept(self, keyword: str, value: Any) -> Any:
        """What of a keyword's value can be said; None for nothing."""
        if keyword not in self.rules.keywords:
            return None
        if keyword == "format":
            return value if isinstance(value, str) and value in self.rules.formats else None
        if keyword in _NUMBERS:
            return value if isinstance(value, int | float) and not isinstance(value, bool) else None
        if keyword in _COUNTS:
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                return None
            most = self.rules.most_min_items
            return value if keyword != "minItems" or most is None else min(value, most)
        if keyword in ("title", "description", "pattern"):
            return value if isinstance(value, str) else None
        return value

    def _told(self, made: dict[str, Any], untold: dict[str, Any]) -> dict[str, Any]:
        if untold:
            for keyword in untold:
                self._drop(keyword)
            words = (
                "{" + ", ".join(f"{keyword}: {json.dumps(value, ensure_ascii=False)}" for keyword, value in untold.items()) + "}"
            )
            said = made.get("description")
            made["description"] = f"{said}\n\n{words}" if said else words
        return made

    # ---------------------------------------------------------------- definitions

    def _definition(self, ref: str, level: int) -> str:
        """The name of a definition, which is written when it is first needed."""
        if ref in self._open and not self.rules.recursive:
            raise Unfit("it leads to itself")
        if ref not in self._names:
            wanted = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in ref.rpartition("/")[2]) or "_"
            name = next(name for name in _numbered(wanted) if name not in self._defs)
            self._names[ref] = name
            self._defs[name] = {}
            self._open.add(ref)
            self._defs[name] = self._fit(self._alternatives.at(ref), level + 1)
            self._open.discard(ref)
        return self._names[ref]


def _words(value: Any) -> list[str]:
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


# ---------------------------------------------------------------- tools

_COMBINE = ("anyOf", "oneOf", "allOf", "$ref")
_NEVER_NULL = ("type", "properties", "required")  # but some clients write it for a tool that takes nothing
_NOT_ON_TOP = ("not", "enum", "const")
_OF_ANYTHING = ("title", "description")  # said of a value of any type


def one_object(schema: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The schema of a tool's arguments as one object at its top, and the keywords that are not there any more.

    Several alternatives become an object with the members of all of them; what all require is required.  Arguments are an object whatever
    a schema says of their type: one for other values alone keeps what it says in words.  Below the top nothing changes.
    """
    schema = {name: value for name, value in schema.items() if value is not None or name not in _NEVER_NULL}
    if not any(keyword in schema for keyword in (*_COMBINE, *_NOT_ON_TOP)):
        kind = schema.get("type", "object")
        if kind == "object" or (isinstance(kind, list) and "object" in kind):
            return {**schema, "type": "object"}, ()
        return {**{word: schema[word] for word in _OF_ANYTHING if word in schema}, "type": "object", "properties": {}}, ("type",)
    dropped = [keyword for keyword in (*_COMBINE, *_NOT_ON_TOP) if keyword in schema and keyword != "$ref"]
    top = {name: value for name, value in schema.items() if name not in (*_COMBINE, *_NOT_ON_TOP, "if", "then", "else")}
    try:
        nodes = Alternatives(schema, lambda keyword: None).of(schema, whole=True)
        objects = [node for node in nodes if "object" in (types_of(node) or ("object",))]
    except Unfit:
        objects = []
    if not objects:
        return {**top, "type": "object"}, tuple(dropped)
    return {**top, "type": "object", **_hull(objects)}, tuple(dropped)


def _hull(nodes: Sequence[Schema]) -> dict[str, Any]:
    kinds: dict[str, list[Any]] = {}
    for node in nodes:
        for name, inner in _members(node).items():
            found = kinds.setdefault(name, [])
            if inner not in found:
                found.append(inner)
    properties = {name: found[0] if len(found) == 1 else {"anyOf": found} for name, found in kinds.items()}
    required = [
        name for name in dict.fromkeys(_words(nodes[0].get("required"))) if all(name in _words(n.get("required")) for n in nodes)
    ]
    made: dict[str, Any] = {"properties": properties}
    if required:
        made["required"] = required
    if all(node.get("additionalProperties") is False for node in nodes):
        made["additionalProperties"] = False
    return made


def _members(node: Schema) -> Mapping[str, Any]:
    found = node.get("properties")
    return found if isinstance(found, Mapping) else {}
