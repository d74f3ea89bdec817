"""OpenAI's SDK for Python."""

import json

import openai
from telling import MODEL, PROMPT, SCENARIO, SCHEMA, TOOL_NAME, TOOL_SAYS, leave, read_note, tell

client = openai.OpenAI()
messages = [{"role": "user", "content": PROMPT}]
tools = [{"type": "function", "function": {"name": TOOL_NAME, "description": TOOL_SAYS, "parameters": SCHEMA}}]


def plain():
    answer = client.chat.completions.create(model=MODEL, messages=messages)
    tell(text=answer.choices[0].message.content)


def stream():
    """By the helper, which holds chunks to their form."""
    with client.chat.completions.stream(model=MODEL, messages=messages, stream_options={"include_usage": True}) as events:
        pieces = [event.delta for event in events if event.type == "content.delta"]
        usage = events.get_final_completion().usage
    assert usage.completion_tokens
    tell(text="".join(pieces), pieces=len(pieces))


def tools_():
    with client.chat.completions.stream(model=MODEL, messages=messages, tools=tools) as events:
        message = events.get_final_completion().choices[0].message
    (call,) = message.tool_calls
    arguments = json.loads(call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": read_note(**arguments)}
    said = {"role": "assistant", "content": message.content, "tool_calls": [call.model_dump(include={"id", "type", "function"})]}
    said["tool_calls"][0]["function"].pop("parsed_arguments", None)
    answer = client.chat.completions.create(model=MODEL, messages=[*messages, said, result], tools=tools)
    tell(text=answer.choices[0].message.content, called={"name": call.function.name, "arguments": arguments})


def error():
    try:
        plain()
    except openai.NotFoundError as problem:
        tell(status=problem.status_code, message=problem.message)


def abort():
    events = client.chat.completions.create(model=MODEL, messages=messages, stream=True)
    next(events)
    events.close()
    leave()


{"plain": plain, "stream": stream, "tools": tools_, "error": error, "abort": abort}[SCENARIO]()
