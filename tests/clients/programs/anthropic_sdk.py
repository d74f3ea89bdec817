"""Anthropic's SDK for Python."""

import anthropic
from telling import MODEL, PROMPT, SCENARIO, SCHEMA, TOOL_NAME, TOOL_SAYS, leave, read_note, tell

client = anthropic.Anthropic()
messages = [{"role": "user", "content": PROMPT}]
tools = [{"name": TOOL_NAME, "description": TOOL_SAYS, "input_schema": SCHEMA}]


def plain():
    assert client.messages.count_tokens(model=MODEL, messages=messages).input_tokens
    answer = client.messages.create(model=MODEL, max_tokens=200, messages=messages)
    assert answer.usage.output_tokens
    tell(text=answer.content[0].text)


def stream():
    with client.messages.stream(model=MODEL, max_tokens=200, messages=messages) as events:
        pieces = list(events.text_stream)
        assert events.get_final_message().usage.output_tokens
    tell(text="".join(pieces), pieces=len(pieces))


def tools_():
    with client.messages.stream(model=MODEL, max_tokens=200, messages=messages, tools=tools) as events:
        message = events.get_final_message()
    (call,) = [block for block in message.content if block.type == "tool_use"]
    assert message.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": read_note(**call.input)}
    turns = [*messages, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    answer = client.messages.create(model=MODEL, max_tokens=200, messages=turns, tools=tools)
    tell(text=answer.content[0].text, called={"name": call.name, "arguments": call.input})


def error():
    try:
        client.messages.create(model=MODEL, max_tokens=200, messages=messages)
    except anthropic.NotFoundError as problem:
        tell(status=problem.status_code, message=f"{problem.body['error']['type']}: {problem.message}")


def abort():
    with client.messages.stream(model=MODEL, max_tokens=60_000, messages=messages) as events:
        next(iter(events.text_stream))
    leave()


{"plain": plain, "stream": stream, "tools": tools_, "error": error, "abort": abort}[SCENARIO]()
