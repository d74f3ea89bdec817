"""JSON schemas for tests: any that hypothesis can think of, values that are valid by them, and whether a value is.  No test lives here."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

KINDS = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
names = st.sampled_from(["a", "b", "c", "d"])
scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "abc"])
junk = scalars | st.lists(scalars, max_size=2) | st.dictionaries(names, scalars, max_size=2)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {"type": st.sampled_from(["object", ["object", "null"]]), "properties": st.dictionaries(names, inner, max_size=3)},
        optional={
            "required": st.lists(names, unique=True, max_size=2),
            "additionalProperties": st.sampled_from([False, False, True]),
            "minProperties": st.integers(0, 2),
            "description": st.just("an object"),
        },
    )


def _combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.fixed_dictionaries({"anyOf": some}),
        st.fixed_dictionaries({"oneOf": some}),
        st.fixed_dictionaries({"allOf": some}),
        st.fixed_dictionaries({"if": inner, "then": inner, "else": inner}),
        st.builds(
            lambda a, b: {**a, **b},
            _objects(inner),
            st.fixed_dictionaries({}, optional={"anyOf": some, "allOf": some, "oneOf": some}),
        ),
    )


leaves = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={"minimum": st.integers(-3, 3), "maximum": st.integers(-3, 3), "multipleOf": st.integers(1, 2)},
    ),
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "minLength": st.integers(0, 2),
            "maxLength": st.integers(0, 3),
            "format": st.sampled_from(["uri", "odd"]),
            "pattern": st.just("a"),
        },
    ),
    st.fixed_dictionaries({"type": st.sampled_from(["boolean", "null", ["string", "null"], ["integer", "boolean"]])}),
    st.fixed_dictionaries({"enum": st.lists(scalars, min_size=1, max_size=3)}),
    st.fixed_dictionaries({"const": scalars}),
    st.sampled_from(["#/$defs/one", "#/$defs/two", "#/definitions/three"]).map(lambda ref: {"$ref": ref}),
)
schemas = st.recursive(
    leaves,
    lambda inner: (
        _objects(inner)
        | st.fixed_dictionaries(
            {"type": st.just("array")},
            optional={"items": inner, "minItems": st.integers(0, 3), "maxItems": st.integers(0, 3), "uniqueItems": st.booleans()},
        )
        | _combined(inner)
    ),
    max_leaves=8,
)
roots = st.builds(
    lambda root, one, two, three: {**root, "$defs": {"one": one, "two": two}, "definitions": {"three": three}},
    schemas,
    schemas,
    leaves,
    leaves,
)
# what no schema should be, and servers' tables are asked about nevertheless
broken = st.recursive(
    junk,
    lambda inner: st.dictionaries(
        st.sampled_from(
            [
                "type",
                "properties",
                "required",
                "items",
                "anyOf",
                "oneOf",
                "allOf",
                "$ref",
                "$defs",
                "enum",
                "if",
                "then",
                "additionalProperties",
                "description",
                "minItems",
                "format",
                "a",
            ]
        ),
        inner | st.lists(inner, max_size=2) | st.sampled_from(["#", "#/a", "#/anyOf/0", "object", "http://x.test"]),
        max_size=4,
    ),
    max_leaves=12,
)


def equal(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def valid(value: Any, schema: Any, root: Any, *, closed: bool = False) -> bool:
    """Whether the value is valid by the schema, for the keywords that are made here; `closed` takes no members but those that are
    declared beside what was chosen of the alternatives."""
    return _ends(ways(value, schema, root, closed), value, closed)


def _ends(found: set[frozenset[str]], value: Any, closed: bool) -> bool:
    return any(not closed or not isinstance(value, dict) or names >= value.keys() for names in found)


def ways(value: Any, schema: Any, root: Any, closed: bool, deep: int = 0) -> set[frozenset[str]]:
    """The ways in which the value is valid, by what was chosen of the alternatives: the members that are declared in each."""
    if schema is False or deep > 30:
        return set()
    if schema is True:
        return {frozenset()}

    def by(inner: Any) -> set[frozenset[str]]:
        return ways(value, inner, root, closed, deep + 1)

    if not _by_itself(value, schema, root, closed, deep + 1):
        return set()
    found = {frozenset(schema.get("properties", ()))}
    several = [by(inner) for inner in schema.get("allOf", ())]
    if "$ref" in schema:
        several.append(by(target(schema["$ref"], root)))
    if "anyOf" in schema:
        several.append(set().union(*map(by, schema["anyOf"])))
    if "oneOf" in schema:
        one = [made for inner in schema["oneOf"] if (made := by(inner))]
        several.append(one[0] if len(one) == 1 else set())
    if "if" in schema:
        first = by(schema["if"])
        several += [first, by(schema.get("then", True))] if first else [by(schema.get("else", True))]
    for others in several:
        found = {names | more for names in found for more in others}
    return found


def target(ref: str, root: Any) -> Any:
    for key in ref[2:].split("/"):
        root = root[key]
    return root


def _by_itself(value: Any, schema: Any, root: Any, closed: bool, deep: int) -> bool:
    def inner(each: Any, by: Any) -> bool:
        return _ends(ways(each, by, root, closed, deep), each, closed)

    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(is_a(value, kind) for kind in kinds):
        return False
    if "enum" in schema and not any(equal(value, each) for each in schema["enum"]):
        return False
    if "const" in schema and not equal(value, schema["const"]):
        return False
    if isinstance(value, dict):
        named, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        enough = all(name in value for name in schema.get("required", ())) and len(value) >= schema.get("minProperties", 0)
        return enough and all(inner(each, named.get(name, more)) for name, each in value.items())
    if isinstance(value, list):
        return (
            schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 99)
            and all(inner(each, schema.get("items", True)) for each in value)
            and not (schema.get("uniqueItems") and any(equal(a, b) for i, a in enumerate(value) for b in value[:i]))
        )
    if isinstance(value, str):
        return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 99) and bool(
            re.search(schema.get("pattern", ""), value)
        )
    if is_a(value, "number"):
        return schema.get("minimum", -99) <= value <= schema.get("maximum", 99) and value % schema.get("multipleOf", 1) == 0
    return True


def is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, KINDS[kind])


def declared(schema: Any, root: Any, deep: int = 0) -> dict[str, list[Any]]:
    """The members that an object may have by any word of the schema, and the schemas that are said of each."""
    if not isinstance(schema, dict) or deep > 12:
        return {}
    found: dict[str, list[Any]] = {name: [inner] for name, inner in schema.get("properties", {}).items()}
    inner = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ()), schema.get("then"), schema.get("else")]
    if "$ref" in schema:
        inner.append(target(schema["$ref"], root))
    for each in inner:
        for name, said in declared(each, root, deep + 1).items():
            found.setdefault(name, []).extend(said)
    return found


@st.composite
def values(draw: Any, schema: Any, root: Any, deep: int = 0) -> Any:
    """Values that may well be valid; their members are declared by the schema itself or by one branch of it."""
    if not isinstance(schema, dict) or deep > 4:
        return draw(scalars)
    for keyword in ("enum",):
        if keyword in schema:
            return draw(st.sampled_from(schema[keyword]))
    if "const" in schema:
        return schema["const"]
    if "$ref" in schema:
        return draw(values(target(schema["$ref"], root), root, deep + 1))
    kinds = schema.get("type")
    kind = draw(st.sampled_from(kinds)) if isinstance(kinds, list) else kinds
    branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *(schema[k] for k in ("then", "else") if k in schema)]
    branch = draw(st.sampled_from(branches)) if branches else None
    if kind in (None, "object"):
        members = {name: [inner] for name, inner in schema.get("properties", {}).items()}
        for each in [*schema.get("allOf", ()), branch]:
            for name, said in declared(each, root, deep + 1).items():
                members.setdefault(name, []).extend(said)
        if kind is None and branch is not None and draw(st.booleans()):
            return draw(values(branch, root, deep + 1))
        if kind is None and schema.get("allOf") and (not members or draw(st.booleans())):
            return draw(values(draw(st.sampled_from(schema["allOf"])), root, deep + 1))
        wanted = [name for name in members if name in schema.get("required", ()) or draw(st.booleans())]
        return {name: draw(values(draw(st.sampled_from(members[name])), root, deep + 1)) for name in wanted}
    if kind == "array":
        return draw(st.lists(values(schema.get("items", {"type": "null"}), root, deep + 1), max_size=3))
    return draw(
        {"string": st.sampled_from(["", "a", "abc"]), "integer": st.integers(-3, 3), "number": st.integers(-3, 3)}.get(
            kind, scalars
        )
    )
