"""What `without` takes out of a body, and that it takes out nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_prefix.header import NAME, without

OLD = "x-anthropic-billing-header: cc_version=2.1.37.0d9; cc_entrypoint=cli; cch=fa690;"
NEW = "x-anthropic-billing-header: cc_version=2.1.330.440; cc_entrypoint=sdk-cli;"
ASKED = {"role": "user", "content": "hi"}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def changed(body: Any, **how: Any) -> Any:
    """The body after `without`, parsed; `how` is how it is written."""
    return json.loads(without(json.dumps(body, **how).encode()))


@pytest.mark.parametrize("how", [{"separators": (",", ":")}, {}, {"indent": 2}, {"ensure_ascii": False}])
@pytest.mark.parametrize("header", [OLD, NEW])
def test_claude_codes_first_block_goes(header: str, how: Any) -> None:
    rest = [text('You are an agent. é \\ "', cache_control={"type": "ephemeral"}), text("More.")]
    body = {"model": "m", "messages": [ASKED], "system": [text(header), *rest], "stream": True}
    assert changed(body, **how) == {**body, "system": rest}


def test_every_other_value_stays_byte_for_byte() -> None:
    body = b'{ "messages":[],\n"system" : [ {"type":"text","text":"%s"} ,  {"text":"\\u00e9\\/" } ],"n":1.0 }' % NEW.encode()
    assert without(body) == b'{"messages":[],"system":[ {"text":"\\u00e9\\/" } ],"n":1.0}'


@pytest.mark.parametrize("between", ["", " ", "\n", "\n\n", "\r\n"])
@pytest.mark.parametrize("header", [OLD, NEW])
def test_a_text_loses_the_header_and_the_break_after_it(header: str, between: str) -> None:
    said = f"{header}{between}You are x=1; {header}"
    left = f"You are x=1; {header}"
    assert changed({"system": said}) == {"system": left}
    assert changed({"system": [text(said)]}) == {"system": [text(left)]}
    for role in ("system", "developer"):
        for content, expected in ((said, left), ([text(said)], [text(left)])):
            body = {"messages": [{"role": role, "content": content}, ASKED]}
            assert changed(body) == {"messages": [{"role": role, "content": expected}, ASKED]}


def test_the_last_value_may_lack_its_semicolon() -> None:
    said = OLD.removesuffix(";")
    assert changed({"system": f"{said}\nYou"}) == {"system": "You"}
    assert changed({"system": [text(said), text("You")]}) == {"system": [text("You")]}


def test_a_message_or_block_of_nothing_else_goes_where_another_follows() -> None:
    first = {"role": "system", "content": NEW}
    assert changed({"messages": [first, ASKED]}) == {"messages": [ASKED]}
    blocks = [text(NEW), text("You")]
    assert changed({"messages": [{"role": "system", "content": blocks}, ASKED]})["messages"][0]["content"] == blocks[1:]


@pytest.mark.parametrize(
    "content", [NEW, [text(NEW)], [{"text": NEW, "type": "text"}], [text(NEW, cache_control={"type": "ephemeral"})]]
)
def test_where_nothing_would_be_left_the_name_stays(content: Any) -> None:
    expected = json.loads(json.dumps(content).replace(NEW, NAME.decode()))
    assert changed({"system": content, "messages": [ASKED]}) == {"system": expected, "messages": [ASKED]}


UNTOUCHED = {
    "no header": {"system": "You are", "messages": [ASKED]},
    "in a user's message": {"messages": [{"role": "user", "content": f"{NEW}\nwhat is this?"}]},
    "in a later message": {"messages": [ASKED, {"role": "system", "content": f"{NEW}\nYou"}]},
    "in a later block": {"system": [text("You"), text(NEW), text("more")]},
    "not at the start": {"system": f"You see {NEW}\nYou"},
    "quoted in a text": {"messages": [{"role": "user", "content": json.dumps({"system": [text(NEW), text("x")]})}]},
    "in a tool's input": {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": {"system": f"{NEW}\nx"}}]}]},
    "in another form": {"system": "x-anthropic-billing-header: none\nYou"},
    "in capitals": {"system": f"{NEW.upper()}\nYou"},
    "a list": [{"system": f"{NEW}\nYou"}],
}


@pytest.mark.parametrize("body", UNTOUCHED.values(), ids=UNTOUCHED)
def test_nothing_else_is_touched(body: Any) -> None:
    written = json.dumps(body).encode()
    assert without(written) is written


def test_the_one_at_the_top_is_found_behind_one_that_is_not() -> None:
    call = {"role": "assistant", "content": [{"type": "tool_use", "input": {"system": f"{NEW}\nx"}}]}
    assert changed({"messages": [call], "system": f"{OLD}\nYou"}) == {"messages": [call], "system": "You"}


@given(
    rest=st.text(),
    value=st.from_regex(r"[0-9a-f]{5}", fullmatch=True),
    messages=st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text()})),
    ascii=st.booleans(),
    indent=st.sampled_from([None, 0, 2]),
)
def test_two_headers_give_the_same_bytes(rest: str, value: str, messages: Any, ascii: bool, indent: int | None) -> None:
    def body(header: str) -> bytes:
        made = {"messages": messages, "system": [text(header), text(rest)], "tools": [{"name": "system"}]}
        return without(json.dumps(made, ensure_ascii=ascii, indent=indent).encode("utf-8", "surrogatepass"))

    assert body(f"{NEW} cch={value};") == body(OLD)
    assert json.loads(body(OLD))["system"] == [text(rest)]


@given(st.binary())
def test_any_bytes_pass(noise: bytes) -> None:
    assert without(noise) is noise
    assert isinstance(without(b'{"system":"' + NEW.encode() + noise), bytes)
