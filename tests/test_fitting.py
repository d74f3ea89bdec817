"""A conversation is made to fit what a kind of server takes: names of tools, ids of users, bounds, media types."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.api import Accepts, replace
from nexus.dialects.canonical import (
    Conversation,
    Document,
    Image,
    Loss,
    Message,
    Role,
    Target,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from nexus.dialects.fitting import fitted
from nexus.dialects.toolnames import renamed
from nexus.dialects.userids import Pseudonyms
from nexus.model import UserIds

CLAUDE_CODES = '{"device_id":"' + "d" * 64 + '","account_uuid":"","session_id":"00000000-0000-4000-8000-000000000000"}'
NARROW = Accepts(tool_name_chars=64, tool_name_letters="a-zA-Z0-9_-", user_chars=64, user_names_nobody=True)
LONG = "mcp__plugin_youtube-content-strategist_youtube-analytics__get_video_details"
HELLO = Message(role=Role.USER, parts=(Text(text="hello"),))


def fit(accepts=NARROW, pseudonyms=None, thinks=None, **fields):
    said = Conversation(model="m", **({"messages": (HELLO,)} | fields))
    return fitted(said, Target(model="m", accepts=accepts, thinks=thinks), pseudonyms or Pseudonyms(key=b"k"))


def lost(made):
    return [(loss.what, loss.meaning_changed) for loss in made.losses]


# ---------------------------------------------------------------- names of tools


def test_a_name_that_fits_stays_and_one_that_does_not_is_the_same_everywhere():
    call, result = ToolCall(id="1", name=LONG, arguments="{}"), ToolResult(call_id="1")
    made = fit(
        tools=(Tool(name="get"), Tool(name=LONG)),
        tool_choice=ToolChoice(mode=ToolMode.NAMED, name=LONG),
        messages=(
            HELLO,
            Message(role=Role.ASSISTANT, parts=(call, ToolCall(id="2", name="gone.by"))),
            Message(role=Role.TOOL, parts=(result,)),
        ),
    )
    said = made.conversation
    new = said.tools[1].name
    assert (said.tools[0].name, said.tool_choice.name, said.messages[1].parts[0].name) == ("get", new, new)
    assert new.startswith("mcp__plugin_youtube-content-strategist")
    assert made.names == {new: LONG, said.messages[1].parts[1].name: "gone.by"}
    assert (made.losses, said.messages[2].parts) == ((), (result,))
    assert fit(tools=(Tool(name=LONG),)).conversation.tools[0].name == new, "whatever stands beside it"


def test_without_a_bound_no_name_changes():
    assert fit(Accepts(), tools=(Tool(name=LONG),)).names == {}


odd = st.text(alphabet="ab.é /_", min_size=1, max_size=70) | st.sampled_from([LONG, LONG + "x", "a.b", "a_b", "a/b"])


@settings(deadline=None)
@given(st.lists(odd, unique=True, max_size=12), st.sampled_from([64, 128, 12]))
def test_new_names_fit_and_are_all_different(names, most):
    accepts = replace(NARROW, tool_name_chars=most)
    new = renamed(names, accepts)
    sent = [new.get(name, name) for name in names]
    assert all(re.fullmatch(f"[a-zA-Z0-9_-]{{1,{most}}}", name) for name in sent)
    assert len(set(sent)) == len(names)
    for name in names:  # alone it has the same name, but where that was taken
        assert renamed([name], accepts).get(name, name) in (new.get(name, name), *sent)


def test_a_new_name_that_is_taken_makes_room():
    first = renamed(["a.b"], NARROW)["a.b"]
    both = renamed(["a.b", first], NARROW)
    assert first not in both
    assert both["a.b"] != first
    assert both == renamed([first, "a.b"], NARROW), "the order says nothing"


# ---------------------------------------------------------------- ids of users


@pytest.mark.parametrize("user", [CLAUDE_CODES, "joe@example.org", "u"])
def test_an_id_is_a_short_keyed_hash(user):
    made = fit(user=user)
    assert re.fullmatch("[0-9a-f]{32}", made.conversation.user)
    assert lost(made) == [("user", False)]
    assert fit(user=user).conversation.user == made.conversation.user
    assert fit(user=user, pseudonyms=Pseudonyms(key=b"another")).conversation.user != made.conversation.user


@pytest.mark.parametrize(
    ("user", "passes"), [("u" * 64, True), ("u" * 65, False), ("joe@example.org", False), ("me <joe@x>", False), ("@", True)]
)
def test_an_id_passes_where_that_is_wanted_and_it_fits(user, passes):
    made = fit(user=user, pseudonyms=Pseudonyms(UserIds.PASS, b"k"))
    assert (made.conversation.user == user, made.losses == ()) == (passes, passes)
    assert len(made.conversation.user) <= 64


def test_an_id_is_dropped_where_that_is_wanted():
    made = fit(user="u", pseudonyms=Pseudonyms(UserIds.DROP))
    assert (made.conversation.user, lost(made)) == (None, [("user", False)])
    assert fit(pseudonyms=Pseudonyms(UserIds.DROP)).losses == ()


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize(("field", "bound"), [("temperature", "temperature"), ("top_p", "top_p"), ("presence_penalty", "penalty")])
def test_sampling_stays_within_its_range(field, bound):
    accepts = Accepts(**{bound: (0, 1)})
    for said, sent in ((-0.5, 0), (0.3, 0.3), (1, 1), (1.7, 1)):
        made = fit(accepts, **{field: said})
        assert getattr(made.conversation, field) == sent
        assert lost(made) == ([] if said == sent else [(field, False)])
    assert getattr(fit(accepts).conversation, field) is None


def test_a_model_that_reasons_is_sampled_as_it_is():
    untuned = Accepts(tuned_thinking=False)
    made = fit(untuned, thinks=True, temperature=1, top_p=0.5, presence_penalty=0)
    said = made.conversation
    assert (said.temperature, said.top_p, said.presence_penalty) == (None, None, None)
    assert lost(made) == [("top_p", False)], "what is usual is not lost"
    assert lost(fit(untuned, thinks=True, stop=("END",))) == [("stop_sequences", True)]
    assert fit(untuned, thinks=False, top_p=0.5, stop=("END",)).losses == ()


def test_stop_sequences_are_as_many_as_are_taken():
    accepts = Accepts(stops=2, blank_stops=False)
    made = fit(accepts, stop=("a", " ", "b"))
    assert (made.conversation.stop, lost(made)) == (("a", "b"), [("stop", False)])
    assert lost(fit(accepts, stop=tuple("abc"))) == [("stop_sequences", True)]


def test_more_tools_than_are_taken_are_refused():
    tools = tuple(Tool(name=f"t{n}") for n in range(3))
    assert lost(fit(Accepts(tools=2), tools=tools)) == [("tools", True)]
    assert fit(Accepts(tools=3), tools=tools).losses == ()


# ---------------------------------------------------------------- media

MEDIA = Accepts(image_types=frozenset({"image/png", "image/jpeg"}), document_types=frozenset({"application/pdf"}))


@pytest.mark.parametrize("place", [lambda part: part, lambda part: ToolResult(call_id="1", parts=(part,))])
def test_a_picture_or_file_that_is_not_taken_is_refused(place):
    def of(part):
        message = Message(role=Role.TOOL if isinstance(place(part), ToolResult) else Role.USER, parts=(place(part),))
        made = fit(MEDIA, messages=(message,))
        (shown,) = made.conversation.messages[0].parts
        return (shown.parts[0] if isinstance(shown, ToolResult) else shown), made.losses

    assert of(Image(data="QUE=", media_type="image/tiff"))[1] == (Loss(what="image_type", meaning_changed=True),)
    assert of(Image(data="QUE=", media_type="image/JPG")) == (Image(data="QUE=", media_type="image/jpeg"), ())
    assert of(Image(url="https://x.test/a.tiff"))[1] == ()
    assert of(Document(data="QUE=", media_type="application/zip"))[1] == (Loss(what="document", meaning_changed=True),)
    assert of(Document(name="a.csv", data="QSxC", media_type="text/csv"))[0] == Document(name="a.csv", text="A,B")
    assert of(Document(data="QUE=", media_type="application/pdf")) == (Document(data="QUE=", media_type="application/pdf"), ())
    assert of(Document(data="/w==", media_type="text/plain"))[1] == (Loss(what="document", meaning_changed=True),)
