"""The members of a JSON request's body, decoded as little as possible: what routing needs to know of one, and how long its prompt is.

Reading the whole of a request into the canonical form is done with `checks`.  No field but `model` and `stream` is known here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from nexus.api import Facts
from nexus.dialects.base64s import without
from nexus.dialects.checks import bad
from nexus.dialects.jsontext import BOM, decoded
from nexus.dialects.members import Members, is_plain, members_of, times_at_top
from nexus.dialects.weight import MOST_PASSED, MOST_VALUES, MOST_WORDS, TooMany, check_text, has_few_members, is_light, weigh
from nexus.errors import Problem
from nexus.model import JSON_SCHEMA, TOOLS

# A prompt of n bytes has between n/8 and n/2 tokens: long English words and runs of blanks reach 8 bytes a token, Chinese
# text has about 2; JSON's escapes lie between.
_BYTES_PER_TOKEN_AT_MOST = 8
_BYTES_PER_TOKEN_AT_LEAST = 2
MAX_MODEL_NAME = 512
MAX_WHOLE = 2**53
_JUDGED = {"model": b'"model"', "stream": b'"stream"'}  # what routing believes must be what the server reads
_WEIGHED = 64 * 1024  # bytes from which on a body is weighed of which only the top is read
_MOST_MEMBERS = 1000  # of such a body
NOTHING = msgspec.Raw(b"null")

T = TypeVar("T")
Bytes = bytes | msgspec.Raw

_elements = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str)
_flag = msgspec.json.Decoder(bool | None)
_number = msgspec.json.Decoder(int | float | None)


class Fields(Members):
    """The members of a body.  `unambiguous` as in `nexus.api.Facts`."""

    __slots__ = ("unambiguous",)
    unambiguous: bool

    def sizes(self, names: Iterable[str]) -> int:
        """Return the bytes of the values of these members together."""
        return sum([len(self[name]) for name in names if name in self])


def fields_of(body: bytes, known: frozenset[str] = frozenset()) -> Fields:
    """The members of the body, their values still as bytes.

    Refuses what servers would read in another way than Nexus: no UTF-8, `model` or `stream` twice or in other letters.
    `known` are names that clients often send: they need no look at their spelling.  Half of a surrogate pair is no error: a server
    of the same dialect gets it as it is.  Raises Problem (400; 413 for more values than anybody decodes).
    """
    if body.startswith(BOM):  # a server's answer may have one, but few servers read it
        raise bad("the body is not valid JSON: it begins with a byte order mark")
    if not body or body.isspace():
        raise bad(
            "the body is empty: send a JSON object, with the field 'model' (GET /v1/models lists what is served) and what the model is to do",
            see="GET /v1/models",
        )
    try:
        check_text(body)  # what is skipped over below would reach the backend unseen
        members = _members(body, known)
    except TooMany as error:
        raise _too_large(f"the body has {error}") from None
    except UnicodeDecodeError as error:
        raise bad(f"the body is not valid UTF-8: {error.reason} at byte {error.start}") from None
    except msgspec.ValidationError:
        raise bad("the body must be a JSON object") from None
    except msgspec.DecodeError as error:
        raise bad(f"the body is not valid JSON: {error}") from None
    except RecursionError:
        raise bad("the body is nested too deeply") from None
    fields = Fields(members)
    fields.unambiguous = is_plain(body, members)
    _judge(fields, body, known)
    return fields


def words_of(body: bytes) -> bytes:
    """The body without the base64 of its pictures and files: as good as the whole for `fields_of` and for counting, and much
    quicker.  Raises Problem (413) where more is left than anybody reads."""
    words = without(body)
    if len(words) > MOST_WORDS:
        raise _too_large(f"the body has more than {MOST_WORDS // 1024**2} MiB beside base64")
    return words


def weigh_request(body: bytes) -> None:
    """Before more than the top of a body is read.  Raises Problem (413)."""
    try:
        weigh(body)
    except TooMany as error:
        raise _too_large(f"the body has {error}") from None


def _too_large(what: str) -> Problem:
    """A request that would cost too much to read: status 413."""
    return Problem(413, "request_too_large", f"{what}: send less at a time")


def _members(body: bytes, known: frozenset[str]) -> Members:
    """Each member is kept, so a large body must not have very many: it has few beside those that are known."""
    if len(body) < _WEIGHED:
        return members_of(body)
    try:
        found = decoded(_decoder(known), body, MOST_PASSED)
    except msgspec.ValidationError as error:
        if "unknown field" not in str(error):
            raise
    else:
        return {name: raw for name in known if type(raw := getattr(found, name)) is msgspec.Raw}
    if body.count(b":") > _MOST_MEMBERS and not has_few_members(body, _MOST_MEMBERS):
        raise _too_large(f"the body has more than {_MOST_MEMBERS:,} fields")
    return members_of(body)


@functools.cache  # 30 µs, for a handful of sets
def _decoder(known: frozenset[str]) -> msgspec.json.Decoder[Any]:
    fields = [(name, msgspec.Raw, None) for name in sorted(known)]
    return msgspec.json.Decoder(msgspec.defstruct("Known", fields, forbid_unknown_fields=True))


def _judge(fields: Fields, body: bytes, known: frozenset[str]) -> None:
    if not fields.unambiguous:
        _refuse_twins(body)
    if known.issuperset(fields):
        return
    for key in fields.keys() - known:
        if key not in _JUDGED and key.casefold() in _JUDGED:
            # servers written in Go read keys without regard to case: two spellings would mean two different requests
            raise bad(f"the field {key!r} must be written {key.casefold()!r}", key)


def _refuse_twins(body: bytes) -> None:
    for key in _JUDGED:
        if may_be_twice(body, key) and times_at_top(body, key) > 1:
            raise bad(f"the field {key!r} is there twice: servers differ in which one counts", key)


def may_be_twice(body: bytes, key: str) -> bool:
    """Whether a closer look is needed to say how often this field, `model` or `stream`, is there."""
    if body.count(_JUDGED[key]) > 1:
        return True
    # a letter that is written as an escape: nobody does so without a purpose
    return b"\\" in body and (b"\\u006" in body or b"\\u007" in body)


def model_in(fields: Fields) -> str:
    """The model's name, which must be there.  Raises Problem (400)."""
    if "model" not in fields:
        raise bad("you must provide the field 'model': the name of a model, see GET /v1/models", "model", see="GET /v1/models")
    model = _typed(fields, "model", _text, "a string")
    if "\ufffd" in model:
        raise bad("'model' holds half a character: servers differ in how they read it", "model")
    if not model or len(model) > MAX_MODEL_NAME:
        raise bad(f"'model' must be a name of 1 to {MAX_MODEL_NAME} characters, see GET /v1/models", "model", see="GET /v1/models")
    return str(model)


def flag_in(fields: Fields, name: str) -> bool:
    """True where the field is true; absent and null are false.  Raises Problem (400)."""
    return name in fields and bool(_typed(fields, name, _flag, "true or false"))


def whole_in(fields: Fields, name: str) -> int | None:
    """A whole number that is not negative; None where the field is absent or null.  Raises Problem (400)."""
    if name not in fields:
        return None
    value = _typed(fields, name, _number, "a number")
    if value is None:
        return None
    if value < 0 or value != value or value > MAX_WHOLE:
        raise bad(f"{name!r} must be a whole number that is not negative", name)
    return int(value)


def tools_and_schemas(fields: Fields, tools: Iterable[str], formats: Iterable[str]) -> Iterator[str]:
    """What a chat needs by what it names beside its messages: in one of `tools` more than [] or null, in one of `formats` a schema."""
    if any(memoryview(fields[name]).nbytes > 4 for name in tools if name in fields):
        yield TOOLS
    if any(b'"json_schema"' in bytes(fields[name]) for name in formats if name in fields):
        yield JSON_SCHEMA


def is_array(raw: Bytes) -> bool:
    """Whether the JSON is an array, told by how it begins."""
    return memoryview(raw)[0] == ord("[")


def elements(raw: Bytes) -> list[msgspec.Raw]:
    """The elements of an array, still as bytes; none where it is something else."""
    return _elements.decode(raw) if is_array(raw) else []


def told(raw: Bytes, decoder: msgspec.json.Decoder[T]) -> T | None:
    """What a decoder of a struct makes of an object; None where it is something else, or its members are."""
    if memoryview(raw)[0] != ord("{"):
        return None
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError:
        return None


def prompt_bytes(raw: Bytes) -> tuple[int, int]:
    """Bytes of the longest prompt and of all, in what may be a text, a list of token ids, or a list of either: each is read by itself.
    A token id counts four bytes.  Raises Problem (413) for very many."""
    data = bytes(raw)
    inner = data[1:65].lstrip()[:1] if data[:1] == b"[" else b""
    if not inner or inner == b"]":
        return len(data), len(data)
    if inner in b"-0123456789" and b'"' not in data and b"[" not in data[1:]:
        return (size := _token_bytes(data)), size
    if is_light(data):
        sizes = [_token_bytes(each) if each[:1] == b"[" else len(each) for each in map(bytes, elements(data))]
    elif inner == b"[" and b'"' not in data:
        sizes = list(_token_lists(data))
    else:
        raise _too_large(f"the body has more than {MOST_VALUES:,} JSON values")
    return max(sizes), sum(sizes)


def _token_bytes(tokens: bytes) -> int:
    return (tokens.count(b",") + 1) * 4


def _token_lists(data: bytes) -> Iterator[int]:
    end = 0
    while (start := data.find(b"[", end + 1)) >= 0:
        end = data.find(b"]", start)
        yield (data.count(b",", start, end) + 1) * 4


def token_bounds(size: int) -> tuple[int, int]:
    """The fewest and the most tokens that `size` bytes of prompt can be: `tokens_low` and `tokens_high` of the facts."""
    return size // _BYTES_PER_TOKEN_AT_MOST, size // _BYTES_PER_TOKEN_AT_LEAST + 1


def likely_tokens(facts: Facts) -> int:
    """The likely tokens of the prompt, or of all prompts in a batch: about four bytes each."""
    return (facts.tokens_total or facts.tokens_high) * _BYTES_PER_TOKEN_AT_LEAST // 4


def _typed(fields: Fields, name: str, decoder: msgspec.json.Decoder[Any], expected: str) -> Any:
    try:
        return decoder.decode(fields[name])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad(f"{name!r} must be {expected}", name) from None
