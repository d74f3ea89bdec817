"""OpenAI's usage objects, as servers really write them, and back.  Where one is found is for `openai_reader` to know."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from nexus.dialects.figures import MOST, count_of, figure_of
from nexus.model import Usage

_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class _Details(msgspec.Struct):
    cached_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None


class Counts(msgspec.Struct):
    """A usage object that is as OpenAI writes it."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


_counts = msgspec.json.Decoder(Counts | None)


def usage_in(raw: bytes | msgspec.Raw) -> Usage | None:
    """The usage in its JSON: at one go where it is as OpenAI writes it, else with patience.  Raises as msgspec does."""
    try:
        return usage_from(_counts.decode(raw))
    except msgspec.ValidationError:
        return usage_of(msgspec.json.decode(raw))


def usage_from(counts: Counts | None) -> Usage | None:
    """As `usage_of`."""
    if counts is None:
        return None
    told, spent = counts.prompt_tokens_details, counts.completion_tokens_details
    return _usage(
        counts.prompt_tokens,
        counts.completion_tokens,
        counts.total_tokens or 0,
        (told.cached_tokens or 0) if told else 0,
        (spent.reasoning_tokens or 0) if spent else 0,
    )


def usage_of(said: Any) -> Usage | None:
    """The tokens in a usage object; None where it holds none: some servers write noughts until they know.  Where it holds only a part
    of them they are to be `completed`.

    Details are optional everywhere, and what is no number counts as absent.  No more than the prompt can have been cached.
    """
    if not isinstance(said, dict):
        return None
    return _usage(
        figure_of(said.get("prompt_tokens")),
        figure_of(said.get("completion_tokens")),
        count_of(said.get("total_tokens")),
        count_of(_dict(said.get("prompt_tokens_details")).get("cached_tokens")),
        count_of(_dict(said.get("completion_tokens_details")).get("reasoning_tokens")),
    )


def _usage(prompt: int | None, output: int | None, total: int, cached: int, reasoning: int) -> Usage | None:
    whole = total > 0 or (prompt is not None and output is not None)
    if output is None:
        output = max(total - (prompt or 0), 0)
    if prompt is None:
        prompt = max(total - output, 0)
    if not prompt and not output:
        return None
    return Usage(
        input_tokens=prompt,
        output_tokens=output,
        cached_tokens=min(cached, prompt),
        reasoning_tokens=reasoning,
        source="reported" if whole else "counted",
    )


def usage_object(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
