"""What the servers of one kind take in a request.  Nothing is applied here: that is done where a request is translated."""

from __future__ import annotations

import attrs

Range = tuple[float, float]


@attrs.frozen(kw_only=True)
class SchemaRules:
    """The JSON schema that a server can hold a model to.

    `keywords` are all that may stand in it, `formats` what `format` may say.  `closed`: every object must say that it takes no
    further members.  `all_required`: every property must be required.  `recursive`: a definition may lead to itself.
    `root_object`: the top must be one object.  `typed_items`: an array must say what it holds.  `most_min_items` is the largest `minItems`; `depth` how many levels there may be
    at most, `properties` how many properties in all.
    """

    keywords: frozenset[str]
    formats: frozenset[str] = frozenset()
    closed: bool = True
    all_required: bool = False
    recursive: bool = True
    root_object: bool = False
    typed_items: bool = False
    most_min_items: int | None = None
    depth: int | None = None
    properties: int | None = None


@attrs.frozen(kw_only=True)
class Accepts:
    """What servers of a kind take, as their documentation has it.  None is no known bound.

    A request that is translated is made to fit; one in the server's own dialect passes as the client wrote it, but for what its
    dialect knows to mend (`Dialect.mended`).

    Attributes:
        tool_name_chars: the longest name of a tool.
        tool_name_letters: the letters of one, as the inside of a regular expression's class.
        tools: the most tools of one request.
        plain_tools: whether the schema of a tool must be one object, without `anyOf`, `oneOf` or `allOf` at its top.
        user_chars: the longest id of an end user.
        user_names_nobody: whether an id of an end user may hold no e-mail address.
        image_types: media types of pictures given as data.
        document_types: media types of files given as data; files of text are sent as their text where it is not among them.
        temperature: the least and the most.
        top_p: the same.
        top_k: the same.
        penalty: the same, for the presence and the frequency of words.
        stops: the most stop sequences.
        blank_stops: whether a stop sequence may be nothing but blanks.
        tuned_thinking: whether a model that reasons takes sampling and stop sequences.
        schema: what a schema may hold that the model is held to (`strict`).
        strict_answers: whether the schema of an answer always holds, so that it must always be such a one.
        late_system: whether a system message may stand further down than at the top, or be one of several; None where that is for
            the model's template to say.
        thinking: which earlier thinking is taken back in the server's own dialect: "any", "signed" by its maker, or "none".
    """

    tool_name_chars: int | None = None
    tool_name_letters: str | None = None
    tools: int | None = None
    plain_tools: bool = False
    user_chars: int | None = None
    user_names_nobody: bool = False
    image_types: frozenset[str] | None = None
    document_types: frozenset[str] | None = None
    temperature: Range | None = None
    top_p: Range | None = None
    top_k: Range | None = None
    penalty: Range | None = None
    stops: int | None = None
    blank_stops: bool = True
    tuned_thinking: bool = True
    schema: SchemaRules | None = None
    strict_answers: bool = False
    late_system: bool | None = None
    thinking: str = "any"


ANYTHING = Accepts()
"""No bound is known."""
