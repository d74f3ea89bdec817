"""A JSON schema for a server that does not take all of them: what comes out is what its table accepts, and it is never stricter."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nexus_anthropic.limits import ANTHROPIC
from nexus_openai.limits import OPENAI

from nexus.api import Accepts
from nexus.dialects.alternatives import Unfit
from nexus.dialects.canonical import Conversation, Format, Message, ResponseFormat, Role, Target, Text, Tool
from nexus.dialects.fitting import fitted
from nexus.dialects.schemas import fitted_schema, one_object
from nexus.dialects.userids import Pseudonyms

from .json_schemas import broken, roots, valid, values

RULES = {"anthropic": ANTHROPIC.schema, "openai": OPENAI.schema}


def wrong(schema, rules, *, top=True):
    """What of a schema the table does not accept."""
    if not isinstance(schema, dict):
        yield f"{schema!r} is no schema"
        return
    yield from (keyword for keyword in schema if keyword not in rules.keywords)
    if "format" in schema and schema["format"] not in rules.formats:
        yield "format"
    if rules.most_min_items is not None and schema.get("minItems", 0) > rules.most_min_items:
        yield "minItems"
    kinds = schema.get("type", [])
    if "object" in ([kinds] if isinstance(kinds, str) else kinds):
        if schema.get("additionalProperties") is not False:
            yield "an open object"
        if rules.all_required and set(schema["properties"]) != set(schema.get("required", ())):
            yield "an optional property"
    elif "additionalProperties" in schema or "properties" in schema:
        yield "members of no object"
    if rules.typed_items and "array" in ([kinds] if isinstance(kinds, str) else kinds) and "items" not in schema:
        yield "an array of anything"
    if not {"type", "anyOf", "$ref", "enum", "const"} & schema.keys():
        yield "a value of any type"
    if any(isinstance(each, dict | list) for each in schema.get("enum", ())):
        yield "enum"
    if top and rules.root_object and schema.get("type") != "object":
        yield "a top that is no object"
    for keyword in ("properties", "$defs"):
        for inner in schema.get(keyword, {}).values():
            yield from wrong(inner, rules, top=False)
    for inner in [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]:
        yield from wrong(inner, rules, top=False)


@pytest.mark.parametrize("server", RULES)
@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_comes_out_is_accepted_and_no_stricter(server, data):
    schema = data.draw(roots)
    before = json.dumps(schema)
    try:
        made, _ = fitted_schema(schema, RULES[server])
    except Unfit:
        return
    assert json.dumps(schema) == before, "the client's own is left alone"
    assert list(wrong(made, RULES[server])) == []
    value = data.draw(values(schema, schema))
    assume(valid(value, schema, schema, closed=True))
    assert valid(value, made, made)


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_tools_schema_is_one_object_at_its_top_and_no_stricter(data):
    schema = data.draw(roots)
    made, _ = one_object(schema)
    assert not {"anyOf", "oneOf", "allOf", "not", "enum"} & made.keys()
    value = data.draw(values(schema, schema))
    assume(isinstance(value, dict) and valid(value, schema, schema, closed=True))
    assert valid(value, made, made)


@pytest.mark.parametrize("kind", ["string", "array", "null", ["string", "null"], [], 7, {}, "Object"])
@pytest.mark.parametrize("accepts", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize("strict", [True, False, None])
def test_a_tools_schema_for_no_object_is_one_for_any(kind, accepts, strict):
    """The clouds take no other at its top, and arguments are always an object."""
    schema = {"type": kind, "description": "A city", "minLength": 3, "items": {"type": "string"}}
    said, lost = fit(accepts, tools=(Tool(name="t", schema=schema, strict=strict),))
    assert said.tools[0].schema == {"type": "object", "properties": {}, "description": "A city"}
    assert ("type", False) in lost


def test_a_tools_schema_that_names_no_type_is_an_object():
    assert one_object({"properties": {"a": {}}}) == ({"type": "object", "properties": {"a": {}}}, ())


@settings(deadline=None, max_examples=100)
@given(broken, st.sampled_from([OPENAI, ANTHROPIC, Accepts()]), st.sampled_from([True, False, None]))
def test_no_schema_is_too_odd(schema, accepts, strict):
    asked = ResponseFormat(kind=Format.JSON_SCHEMA, schema=schema if isinstance(schema, dict) else None, strict=strict)
    said = Conversation(model="m", tools=(Tool(name="t", schema=asked.schema, strict=strict),), response_format=asked)
    made = fitted(said, Target(model="m", accepts=accepts), Pseudonyms()).conversation
    held = made.response_format
    if held is not None and accepts.schema is not None and (held.strict or accepts.strict_answers) and not made.messages:
        assert isinstance(held.schema, dict)


DEEP = {"type": "string"}
for _ in range(300):
    DEEP = {"type": "object", "properties": {"x": DEEP}, "required": ["x"]}
COMBINED = {"type": "string"}
for _ in range(300):
    COMBINED = {"allOf": [COMBINED]}
MANY = {"allOf": [{"anyOf": [{"type": "object", "properties": {f"{n}{m}": {"type": "null"}}} for m in range(9)]} for n in range(9)]}
RING = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
TREE = {
    "type": "object",
    "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["kids"],
    "additionalProperties": False,
}
WIDE = {"type": "object", "properties": {str(n): {"type": "null"} for n in range(25_000)}}


@pytest.mark.parametrize(
    "schema", [DEEP, COMBINED, MANY, RING, WIDE, {"allOf": [RING, {"type": "object"}]}, {"$ref": "http://x.test"}, {"$ref": 7}]
)
@pytest.mark.parametrize("rules", RULES.values())
def test_what_is_too_much_is_unfit_and_breaks_nothing(schema, rules):
    with pytest.raises(Unfit):
        fitted_schema(schema, rules)
    made, _ = one_object(schema)
    assert made["type"] == "object"
    assert sys.getrecursionlimit() == 1000


def test_a_schema_that_leads_to_itself_is_for_servers_that_take_it():
    made, _ = fitted_schema(TREE, RULES["openai"])
    assert made["properties"]["kids"]["items"] == {"$ref": "#/$defs/_"}
    with pytest.raises(Unfit, match="itself"):
        fitted_schema(TREE, RULES["anthropic"])


def test_what_is_left_out_is_told_to_the_model():
    score = {"type": "integer", "minimum": 1, "maximum": 10, "description": "How good"}
    tags = {"type": "array", "items": {"type": "string", "maxLength": 20, "format": "color"}, "minItems": 3}
    schema = {"$schema": "x", "type": "object", "properties": {"score": score, "tags": tags}, "required": ["score", "tags"]}
    made, dropped = fitted_schema(schema, RULES["anthropic"])
    assert made == {
        "type": "object",
        "properties": {
            "score": {"type": "integer", "description": "How good\n\n{minimum: 1, maximum: 10}"},
            "tags": {
                "type": "array",
                "items": {"type": "string", "description": '{maxLength: 20, format: "color"}'},
                "minItems": 1,
                "description": "{minItems: 3}",
            },
        },
        "required": ["score", "tags"],
        "additionalProperties": False,
    }
    assert set(dropped) == {"minimum", "maximum", "maxLength", "format", "minItems"}


def test_objects_that_are_combined_are_closed_as_one():
    a, b = ({"type": "object", "properties": {name: {"type": "string"}}, "required": [name]} for name in "ab")
    both = {"a": "x", "b": "y"}
    for schema in (
        {"allOf": [a, b]},
        {**a, "allOf": [b]},
        {**a, "anyOf": [b, {"required": ["a"]}]},
        {**a, "if": True, "then": b, "else": True},
    ):
        made, _ = fitted_schema(schema, RULES["anthropic"])
        assert valid(both, made, made), schema


@pytest.mark.parametrize(
    "inner",
    [
        {},
        True,
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"description": "any"},
        {"type": "object", "patternProperties": {"^x": {"type": "null"}}},
    ],
)
def test_what_may_be_anything_is_unfit(inner):
    with pytest.raises(Unfit):
        fitted_schema({"type": "object", "properties": {"x": inner}}, RULES["anthropic"])


# ---------------------------------------------------------------- in a conversation


def fit(accepts, **fields):
    said = Conversation(
        model="m",
        messages=(Message(role=Role.SYSTEM, parts=(Text(text="s"),)), Message(role=Role.USER, parts=(Text(text="u"),))),
        **fields,
    )
    made = fitted(said, Target(model="m", accepts=accepts), Pseudonyms())
    return made.conversation, [(loss.what, loss.meaning_changed) for loss in made.losses]


def answer(schema, strict=None):
    return ResponseFormat(kind=Format.JSON_SCHEMA, schema=schema, strict=strict)


OPTIONAL = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
FULL = {**OPTIONAL, "required": ["a"]}
MAP = {"type": "object", "additionalProperties": {"type": "string"}}


def test_a_schema_that_cannot_be_held_is_put_into_words_unless_it_must_hold():
    said, lost = fit(ANTHROPIC, response_format=answer(MAP))
    assert (said.response_format, lost) == (None, [("response_format", False)])
    assert [message.role for message in said.messages] == [Role.SYSTEM, Role.SYSTEM, Role.USER]
    assert '{"type":"object","additionalProperties":{"type":"string"}}' in said.messages[1].parts[0].text
    assert fit(ANTHROPIC, response_format=answer(MAP, True))[1] == [("response_format", True)]


def test_strict_is_left_off_where_the_server_would_refuse_it():
    for asked, strict, lost in ((FULL, True, []), (OPTIONAL, None, [("strict", False)]), (MAP, None, [("strict", False)])):
        said, found = fit(OPENAI, response_format=answer(asked, True), tools=(Tool(name="t", schema=asked, strict=True),))
        assert (said.response_format.strict, said.tools[0].strict, found) == (strict, strict, lost)
        assert said.tools[0].schema == asked
    said, lost = fit(OPENAI, response_format=answer(OPTIONAL), tools=(Tool(name="t", schema=OPTIONAL, strict=False),))
    assert (said.response_format, said.tools[0].schema, lost) == (answer(OPTIONAL), OPTIONAL, [])


@pytest.mark.parametrize("accepts", [OPENAI, ANTHROPIC])
def test_alternatives_at_the_top_of_a_tool_are_one_object(accepts):
    a, b = (
        {"type": "object", "properties": {name: {"type": "string"}, "c": {"type": kind}}, "required": [name, "c"]}
        for name, kind in (("a", "null"), ("b", "string"))
    )
    schema = {"anyOf": [a, {"$ref": "#/$defs/b"}], "$defs": {"b": b}, "description": "Two ways"}
    said, lost = fit(accepts, tools=(Tool(name="t", schema=schema),))
    assert said.tools[0].schema == {
        "type": "object",
        "description": "Two ways",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}, "c": {"anyOf": [{"type": "null"}, {"type": "string"}]}},
        "required": ["c"],
        "$defs": {"b": b},
    }
    assert lost == [("anyOf", False)]
    assert fit(Accepts(), tools=(Tool(name="t", schema=schema),))[0].tools[0].schema == schema
