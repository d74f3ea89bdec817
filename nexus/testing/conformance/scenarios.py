"""What is asked and answered in every scenario, in canonical terms.  How a dialect says it is in that dialect's table."""

from __future__ import annotations

import enum

import attrs

from nexus.api import replace
from nexus.dialects.canonical import (
    Answer,
    Conversation,
    Document,
    FinishReason,
    Format,
    Image,
    Message,
    Part,
    Reasoning,
    ResponseFormat,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from nexus.model import Usage

MODEL = "golden"
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE_URL = "https://pictures.example/cat.jpg"
PDF = "JVBERi0xLjQKJSVFT0YK"
PDF_URL = "https://files.example/report.pdf"
SIGNATURE = "RXF1YWwgdG8gbm9ib2R5"
REDACTED = "b25seSBpdHMgbWFrZXI="
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SUM = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
    "additionalProperties": False,
}
WEATHER = Tool(name="get_weather", description="The weather in a city.", schema=CITY)
CLOCK = Tool(name="get_time", description="The time in a city.", schema=CITY)
PARIS = '{"city":"Paris"}'
ZURICH = '{"city":"Zürich 🏔"}'
# every width of UTF-8, marks that combine, joined emoji, both directions, line ends that only some count as such
UNICODE = (
    "Å é ñ ß — “quoted” \\ / \t 日本語 한국어 العربية עברית हिन्दी ไทย e\u0301 👩‍👩‍👧‍👦 🏳️‍🌈 𝒳 \u2028 \u2029 \u0085 \x7f data: [DONE]\n\nevent: x\n"
    * 12
)


class Manner(enum.StrEnum):
    """How a backend tells a stream.

    `USUAL` as the dialect's own servers do.  `AT_ONCE` each tool call with all of its arguments in the event that begins it.
    `IN_TURNS` the arguments of several calls in turns, each call begun before any is complete.  `MARKED` with what clients pass over
    (comments, pings) before and between all events.  `SLOW` with nothing for a while, before the first event and within a later one.
    `STAYING` with a connection that stays open after the last event.  `TORN` with the halves of a character in two events, each as an
    escape.  `STRANGE` with events, and parts of events, of kinds that nobody knows, which hold words.  `BARE` with no arguments for a
    call that has none.  `RESTLESS` with a reason to end in every event (OpenAI's servers).  `ENDLESS` with no last event
    (OpenAI's servers), and a connection that stays open.
    """

    USUAL = "usual"
    AT_ONCE = "at once"
    IN_TURNS = "in turns"
    MARKED = "marked"
    SLOW = "slow"
    STAYING = "staying"
    TORN = "torn"
    STRANGE = "strange"
    BARE = "bare"
    RESTLESS = "restless"
    ENDLESS = "endless"


LOOSE = frozenset({Manner.AT_ONCE, Manner.IN_TURNS, Manner.TORN, Manner.STRANGE, Manner.BARE, Manner.RESTLESS, Manner.ENDLESS})


@attrs.frozen(kw_only=True)
class Scenario:
    """One exchange.  `said` is what the backend answers: its `model` is not compared.

    `whole` and `streamed` say in which ways it is asked for.  `cut` is into pieces of how many bytes the backend's stream is
    cut, 0 for one piece an event.  `manner` is how the stream is told; `like` names the scenario that asks the same.
    """

    name: str
    asked: Conversation
    said: Answer
    whole: bool = True
    streamed: bool = True
    cut: int = 0
    manner: Manner = Manner.USUAL
    like: str = ""

    @property
    def is_loose(self) -> bool:
        """Whether a strict client may refuse the stream: some servers tell theirs so, and within one dialect it passes as it is."""
        return self.manner in LOOSE

    @property
    def request(self) -> str:
        """The name under which a table has the request."""
        return self.like or self.name


@attrs.frozen(kw_only=True)
class Failing:
    """A backend that answers with an error.

    `status` is the backend's, `told` the client's: what can be tried elsewhere is not the client's error, and 502 where nobody
    else was left.  `where` is `status`, `first` (a 200 whose first event is an error), `middle` (an error event after the first
    words), `named` (the same, but that only its name says so: `event: error`), `before the end` (the same, and then the last events of
    a proper stream) or `cut` (the connection ends there).  `stays` is a connection that is left open after it.
    """

    name: str
    status: int = 200
    told: int = 200
    where: str = "status"
    stays: bool = False


def _said(text: str = "", *parts: Part, **fields: object) -> Answer:
    spoken = (Text(text=text),) if text else ()
    return Answer(parts=(*spoken, *parts), **{"finish": FinishReason.STOP, "usage": USED, **fields})  # type: ignore[arg-type]  # each scenario names fields of its own


def _asked(*messages: Message, **fields: object) -> Conversation:
    return Conversation(model=MODEL, messages=messages, **{"max_output_tokens": 256, **fields})  # type: ignore[arg-type]  # each scenario names fields of its own


def _system(*texts: Text) -> Message:
    return Message(role=Role.SYSTEM, parts=texts)


def _user(*parts: Part | str) -> Message:
    return Message(role=Role.USER, parts=tuple(Text(text=part) if isinstance(part, str) else part for part in parts))


def _assistant(*parts: Part | str) -> Message:
    return Message(role=Role.ASSISTANT, parts=tuple(Text(text=part) if isinstance(part, str) else part for part in parts))


def _results(*results: ToolResult) -> Message:
    return Message(role=Role.TOOL, parts=results)


def _result(call_id: str, *parts: Text | Image | str, is_error: bool = False) -> ToolResult:
    said = tuple(Text(text=part) if isinstance(part, str) else part for part in parts)
    return ToolResult(call_id=call_id, parts=said, is_error=is_error)


USED = Usage(input_tokens=310, output_tokens=42, cached_tokens=256, source="reported")
THOUGHT = replace(USED, reasoning_tokens=17)
HELLO = _user("Hello!")
PLAIN = _asked(
    _system(Text(text="You are brief.")),
    _user("Hello, who are you?"),
    _assistant("A model."),
    _user("And what is 2 + 2?"),
    user="user-7",
)
_CALLED = (
    _user("Paris or Zürich?"),
    _assistant(
        "I ask.",
        ToolCall(id="call_A1", name="get_weather", arguments=PARIS),
        ToolCall(id="call_B2", name="get_weather", arguments=ZURICH),
    ),
)
_BOTH = {"tools": (WEATHER, CLOCK)}
BOTH_ASKED = _asked(_user("Weather and time in Paris?"), tool_choice=ToolChoice(mode=ToolMode.REQUIRED), **_BOTH)
BOTH_CALLED = _said(
    "",
    ToolCall(id="call_W1", name="get_weather", arguments=PARIS),
    ToolCall(id="call_T2", name="get_time", arguments=ZURICH),
    finish=FinishReason.TOOL_CALLS,
)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(name="plain", asked=PLAIN, said=_said("2 + 2 is 4."), streamed=False),
    Scenario(name="streamed", asked=PLAIN, said=_said("2 + 2 is 4."), whole=False),
    Scenario(name="sampling", asked=_asked(HELLO, temperature=0.5, top_p=0.9, top_k=40), said=_said("Hello.")),
    Scenario(
        name="tools",
        asked=_asked(_user("The weather in Zürich?"), tool_choice=ToolChoice(mode=ToolMode.AUTO), **_BOTH),
        said=_said("I ask. ", ToolCall(id="call_W1", name="get_weather", arguments=ZURICH), finish=FinishReason.TOOL_CALLS),
    ),
    Scenario(
        name="parallel tools",
        asked=BOTH_ASKED,
        said=BOTH_CALLED,
    ),
    Scenario(
        name="forced tool",
        asked=_asked(HELLO, tool_choice=ToolChoice(mode=ToolMode.NAMED, name="get_time"), parallel_tools=False, **_BOTH),
        said=_said("", ToolCall(id="call_T1", name="get_time", arguments=PARIS), finish=FinishReason.TOOL_CALLS),
    ),
    Scenario(
        name="tool results",
        asked=_asked(
            *_CALLED, _results(_result("call_A1", "18 °C"), _result("call_B2", "9 °C", "rain")), _user("Which one?"), **_BOTH
        ),
        said=_said("Paris."),
    ),
    Scenario(
        name="images in results",
        asked=_asked(
            *_CALLED,
            _results(_result("call_A1", "A map:", Image(data=PICTURE, media_type="image/png")), _result("call_B2", "no map")),
            _user("Which one?"),
            **_BOTH,
        ),
        said=_said("Paris."),
    ),
    Scenario(
        name="failed tool",
        asked=_asked(*_CALLED, _results(_result("call_A1", "18 °C"), _result("call_B2", "no such city", is_error=True)), **_BOTH),
        said=_said("Paris it is."),
    ),
    Scenario(
        name="images",
        asked=_asked(_user("Which is a cat?", Image(data=PICTURE, media_type="image/png"), Image(url=PICTURE_URL))),
        said=_said("The second."),
    ),
    Scenario(
        name="documents",
        asked=_asked(_user(Document(name="report.pdf", data=PDF, media_type="application/pdf"), "Sum it up.")),
        said=_said("It is empty."),
    ),
    Scenario(name="document by URL", asked=_asked(_user(Document(url=PDF_URL), "Sum it up.")), said=_said("It is empty.")),
    Scenario(
        name="reasoning",
        asked=_asked(HELLO, thinking=Thinking(enabled=True, effort="high")),
        said=_said(
            "",
            Reasoning(text="They greet me; I greet back.", signature=SIGNATURE),
            Reasoning(redacted=REDACTED),
            Text(text="Hello."),
            usage=THOUGHT,
        ),
    ),
    Scenario(
        name="reasoning sent back",
        asked=_asked(
            HELLO,
            _assistant(Reasoning(text="A greeting.", signature=SIGNATURE), Reasoning(redacted=REDACTED), "Hello."),
            _user("What did you think?"),
        ),
        said=_said("Of greetings."),
    ),
    Scenario(
        name="JSON schema",
        asked=_asked(_user("2 + 2?"), response_format=ResponseFormat(kind=Format.JSON_SCHEMA, name="answer", schema=SUM)),
        said=_said('{"sum": 4}'),
    ),
    Scenario(
        name="stop",
        asked=_asked(_user("Count."), stop=("END", "three")),
        said=_said("one two ", finish=FinishReason.STOP_SEQUENCE, stop_sequence="three"),
    ),
    Scenario(name="length", asked=_asked(_user("Count."), max_output_tokens=3), said=_said("one two", finish=FinishReason.LENGTH)),
    Scenario(name="refusal", asked=_asked(_user("Do evil.")), said=_said("No", finish=FinishReason.CONTENT_FILTER)),
    Scenario(name="long unicode", asked=_asked(_user(UNICODE)), said=_said(UNICODE), cut=61),
    Scenario(name="empty answer", asked=_asked(HELLO), said=_said("")),
    Scenario(
        name="system in blocks",
        asked=_asked(_system(Text(text="You are brief."), Text(text="You are kind.", cache="1h")), HELLO),
        said=_said("Hello."),
    ),
    Scenario(
        name="late system",
        asked=_asked(HELLO, _assistant("Hello."), _system(Text(text="Be brief from here on.")), _user("How are you?")),
        said=_said("Well."),
    ),
    *(
        Scenario(name=name, asked=BOTH_ASKED, said=BOTH_CALLED, whole=False, manner=manner, like="parallel tools")
        for name, manner in (("calls at once", Manner.AT_ONCE), ("calls in turns", Manner.IN_TURNS))
    ),
    *(
        Scenario(name=name, asked=PLAIN, said=_said("2 + 2 is 4."), whole=False, manner=manner, like="streamed")
        for name, manner in (("pings", Manner.MARKED), ("kept alive", Manner.SLOW), ("silence at the end", Manner.STAYING))
    ),
    *(
        Scenario(name=name, asked=PLAIN, said=_said("2 + 2 is 4 😀, I 😀 think."), whole=False, manner=manner, like="streamed")
        for name, manner in (("halves of characters", Manner.TORN), ("unknown kinds", Manner.STRANGE))
    ),
    Scenario(
        name="no arguments",
        asked=BOTH_ASKED,
        said=_said("", ToolCall(id="call_T2", name="get_time", arguments="{}"), finish=FinishReason.TOOL_CALLS),
        whole=False,
        manner=Manner.BARE,
        like="parallel tools",
    ),
    *(
        Scenario(name=name, asked=PLAIN, said=_said("2 + 2 is 4."), whole=False, manner=manner, like="streamed")
        for name, manner in (("a reason in every event", Manner.RESTLESS), ("no last event", Manner.ENDLESS))
    ),
)

EVERYTHING = Scenario(
    name="everything",
    asked=_asked(HELLO),
    said=_said(
        "",
        Reasoning(text="Hm 🏔", signature=SIGNATURE),
        Text(text="é 😀"),
        ToolCall(id="call_1", name="get", arguments="{}"),
        ToolCall(id="call_2", name="get", arguments='{"a":"ü"}'),
        finish=FinishReason.TOOL_CALLS,
    ),
    whole=False,
)
"""One short stream with every kind of event in it, to be cut at every byte; no client asks for it."""

FAILURES: tuple[Failing, ...] = (
    Failing(name="400", status=400, told=400),
    Failing(name="413", status=413, told=413),
    Failing(name="422", status=422, told=422),
    Failing(name="401", status=401, told=502),
    Failing(name="403", status=403, told=502),
    Failing(name="404", status=404, told=404),
    Failing(name="429", status=429, told=429),
    Failing(name="500", status=500, told=502),
    Failing(name="503", status=503, told=503),
    Failing(name="504", status=504, told=502),
    Failing(name="529", status=529, told=529),
    Failing(name="error as first event", where="first", told=502),
    Failing(name="error in mid-stream", where="middle"),
    Failing(name="error by its name", where="named"),
    Failing(name="error before an end", where="before the end"),
    Failing(name="silence after an error", where="middle", stays=True),
    Failing(name="cut in mid-stream", where="cut"),
)
