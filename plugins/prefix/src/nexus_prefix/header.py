"""The line that Claude Code puts before its system prompt, and a body without it.  Who gets such a body is not decided here.

    x-anthropic-billing-header: cc_version=2.1.330.440; cc_entrypoint=sdk-cli; cch=fa690;

The last part of `cc_version` follows from the first words of the conversation, and `cch`, where a version sends it, from the whole
request.  So a server that keeps the beginning of prompts finds nothing of one conversation's in the next, or nothing of one request's
in its follower.  Only Anthropic reads the line (https://github.com/anthropics/claude-code/issues/68900,
https://github.com/ggml-org/llama.cpp/pull/21793; seen in 2.1.330).
"""

from __future__ import annotations

import re

import msgspec

from nexus.dialects.members import body_of, members_of

NAME = b"x-anthropic-billing-header:"

# Values hold no spaces: where the next block was joined on without a line break, its first word ends the header.
_HEADER = NAME + rb'(?: *[\w.-]+=[^; "\\]*(?:;|(?=["\\])))+(?:\\[nr]| )*'
_TYPE = rb'"type"\s*:\s*"text"'
_BLOCK = rb'\{\s*(?:%s\s*,\s*)?"text"\s*:\s*' % _TYPE
_MESSAGE = rb'\{\s*"role"\s*:\s*"(?:system|developer)"\s*,\s*"content"\s*:\s*'

# A system prompt that begins with the header, as one text or in blocks: the value of Anthropic's `system`, and of OpenAI's `messages`.
_TEXT = rb'(?:\[\s*(?P<block>%s))?"(?P<header>%s)' % (_BLOCK, _HEADER)
_PROMPTS = {
    "system": re.compile(_TEXT),
    "messages": re.compile(rb"\[\s*(?P<message>%s)" % _MESSAGE + _TEXT),
}
_ENDS_ALONE = re.compile(rb'"(?:\s*,\s*%s)?\s*\}\s*,\s*' % _TYPE)


def without(body: bytes) -> bytes:
    """`body` less the header at the very start of its system prompt; `body` itself where none is, or where it is no JSON object.

    The values of all other fields stay byte for byte.  One pass over what a client wrote, however often it repeats the header.
    """
    try:
        members = members_of(body)
    except (msgspec.DecodeError, RecursionError):
        return body
    for name, header in _PROMPTS.items():
        prompt = bytes(members.get(name, b""))
        if found := header.match(prompt):
            return body_of({**members, name: _cut(prompt, found)})
    return body


def _cut(prompt: bytes, found: re.Match[bytes]) -> bytes:
    """A block or message of nothing else goes with it.  Where nothing would be left, its name stays: servers refuse empty texts."""
    start, end = found.span("header")
    if prompt[end : end + 1] != b'"':
        return prompt[:start] + prompt[end:]
    around = next((name for name in ("block", "message") if found.groupdict().get(name)), None)
    alone = _ENDS_ALONE.match(prompt, end) if around else None
    if around and alone:
        return prompt[: found.start(around)] + prompt[alone.end() :]
    return prompt[:start] + NAME + prompt[end:]
