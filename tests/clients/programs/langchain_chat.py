"""LangChain's chat models of both dialects."""

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from telling import MODEL, PROMPT, SCENARIO, URL, VARIANT, leave, read_note, tell

if VARIANT == "openai":
    model = ChatOpenAI(base_url=f"{URL}/v1", api_key="anything", model=MODEL)
else:
    model = ChatAnthropic(base_url=URL, api_key="anything", model=MODEL, max_tokens=60_000 if SCENARIO == "abort" else 200)


def text_of(message):
    return message.text if isinstance(message.text, str) else message.text()


def plain():
    tell(text=text_of(model.invoke(PROMPT)))


def stream():
    pieces = [text for text in map(text_of, model.stream(PROMPT)) if text]
    tell(text="".join(pieces), pieces=len(pieces))


def tools():
    @tool("read_note")
    def offered(name: str) -> str:
        """Reads a note."""
        return read_note(name)

    able = model.bind_tools([offered])
    said = able.invoke([("user", PROMPT)])
    (call,) = said.tool_calls
    result = ToolMessage(offered.invoke(call["args"]), tool_call_id=call["id"])
    answer = able.invoke([("user", PROMPT), said, result])
    tell(text=text_of(answer), called={"name": call["name"], "arguments": call["args"]})


def error():
    try:
        plain()
    except (openai.NotFoundError, anthropic.NotFoundError) as problem:
        tell(status=problem.status_code, message=problem.message)


def abort():
    chunks = model.stream(PROMPT)
    next(chunks)
    chunks.close()
    leave()


{"plain": plain, "stream": stream, "tools": tools, "error": error, "abort": abort}[SCENARIO]()
