"""A chat that is read in one go means what it means field by field."""

import random

import pytest

from nexus.api import Facts, Payload, Problem
from nexus.dialects import openai
from nexus.dialects.openai_usual import usual_facts

HELLO = '[{"role":"user","content":"hi"}]'
USUAL = {"model": '"m"', "messages": HELLO, "stream": "true"}
NAMES = (
    *("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "temperature", "stop", "tools"),
    *("Model", "STREAM", "mod\\u0065l", "\\u0073tream", "x"),
)
VALUES = (
    *(
        '"a"',
        '"m\\u0065"',
        '"\\ufffd"',
        '""',
        '"é"',
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        '"model"',
        f'"{"x" * 512}"',
        f'"{"x" * 513}"',
    ),
    *("null", "true", "false", "1", "0", "-1", "-0", "1.0", "1.5", "1e3", "1e400", "9007199254740992", "9007199254740993"),
    *("[]", " [1]", HELLO, '[{"type":"image_url"}]', '[{"content":"hi","model":"x","stream":2}]', "[[", "tru", "\0"),
    *("{}", '{"include_usage":true}', '{"include_usage":1}', '{"include_usage":true,"x":1}', '{"model":1}'),
)


def a_body(chance: random.Random) -> bytes:
    members = [(name, usual if chance.random() < 0.9 else chance.choice(VALUES)) for name, usual in USUAL.items()]
    members += [(chance.choice(NAMES), chance.choice(VALUES)) for _ in range(chance.choice([0, 0, 1, 1, 2, 3]))]
    chance.shuffle(members)
    blank = chance.choice(["", "", " "])
    return ("{" + ",".join(f'"{name}":{blank}{value}' for name, value in members) + "}").encode()


def field_by_field(body: bytes, monkeypatch: pytest.MonkeyPatch) -> Facts | str:
    dialect = openai.OpenAI()
    with monkeypatch.context() as patch:
        patch.setattr(openai, "usual_facts", lambda body: None)
        try:
            return dialect.decode(dialect.endpoints[0], Payload(body))
        except Problem as problem:
            return problem.message


@pytest.mark.parametrize("seed", range(4))
def test_both_ways_of_reading_agree(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance, read = random.Random(seed), 0
    for body in [a_body(chance) for _ in range(2000)]:
        usual = usual_facts(body)
        if usual is not None:
            read += 1
            assert usual == field_by_field(body, monkeypatch), body
    assert read > 200


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ("", Facts(model="m", tokens_low=4, tokens_high=17)),
        (',"stream":true,"temperature":0.5,"stop":["x"]', Facts(model="m", stream=True, tokens_low=4, tokens_high=17)),
        (
            ',"max_tokens":5,"max_completion_tokens":7,"n":2',
            Facts(model="m", tokens_low=4, tokens_high=17, max_output_tokens=7, n=2),
        ),
        (',"stream_options":{"include_usage":true}', Facts(model="m", tokens_low=4, tokens_high=17, wants_usage=True)),
        (',"tools":[{"type":"function"}]', None),
        (f',"user":"{"x" * 4096}"', None),
        (',"user":"é"', None),
        (',"model":"n"', None),
        (',"n":-1', None),
    ],
)
def test_what_is_read_in_one_go(members: str, said: Facts | None) -> None:
    assert usual_facts(f'{{"model":"m","messages":{HELLO}{members}}}'.encode()) == said
