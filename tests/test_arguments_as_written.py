"""Arguments of tool calls that are JSON by its grammar, but that Python has no values for, or too many, or too deep."""

from __future__ import annotations

import json

import pytest
from nexus_anthropic.dialect import Anthropic

from nexus.api import BackendError
from nexus.dialects.canonical import Answer, Begin, Finish, FinishReason, ReplyContext, ToolCall, ToolCallDelta, ToolCallStart
from nexus.dialects.jsontext import dumps_text, object_of, why_no_object
from nexus.dialects.weight import MOST_VALUES

CONTEXT = ReplyContext(request_id="r", model="m")
WRITTEN = ['{"a":1e400}', '{"a":-1E+999,"b":"é"}', '{"a":{"b":[1e400,{"c":"]}"}]},"d":null}', '{"a\\n":1e400}']
DEEP = '{"a":' + "[" * 2000 + "]" * 2000 + "}"
MANY = '{"a":[' + "1," * MOST_VALUES + "1]}"
NONE = ['{"a":1e400', '{"a":1e400}}', '{"a":1e400,}', "[1e400]", "1e400", '{"a":1e400 "b":2}', '{"a":1e400,"b":tru}', "hello"]


def whole(arguments):
    call = ToolCall(id="c", name="t", arguments=arguments)
    body, lost = Anthropic().write_answer(Answer(parts=(call,), finish=FinishReason.TOOL_CALLS), CONTEXT)
    assert lost == ()
    return body.decode()


def streamed(arguments):
    encoder = Anthropic().stream_encoder(CONTEXT)
    events = [Begin(model="m"), ToolCallStart(index=0, id="c", name="t"), ToolCallDelta(index=0, arguments=arguments)]
    wire = b"".join([*map(encoder.encode, [*events, Finish(reason=FinishReason.TOOL_CALLS)]), encoder.finish()])
    return wire.decode()


@pytest.mark.parametrize("arguments", WRITTEN)
def test_a_number_beyond_pythons_is_passed_on_as_it_is_written(arguments):
    assert dumps_text(object_of(arguments)) == arguments
    assert f'"input":{arguments}' in whole(arguments)
    assert json.dumps(arguments, ensure_ascii=False) in streamed(arguments)


@pytest.mark.parametrize("arguments", NONE)
@pytest.mark.parametrize("write", [whole, streamed])
def test_what_is_no_object_is_told_so(arguments, write):
    assert object_of(arguments) is None
    with pytest.raises(BackendError, match="'t' with arguments that are no JSON object"):
        write(arguments)


@pytest.mark.parametrize(
    ("arguments", "reason"), [(DEEP, "that are nested too deeply"), (MANY, "of more than 250,000 JSON values")]
)
@pytest.mark.parametrize("write", [whole, streamed])
def test_what_is_too_much_is_told_so(arguments, reason, write):
    assert object_of(arguments) is None
    assert why_no_object(arguments) == f"arguments {reason}"
    with pytest.raises(BackendError, match=f"'t' with arguments {reason}"):
        write(arguments)
