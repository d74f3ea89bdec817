"""What servers and sources say of themselves, judged where it crosses into Nexus: behind this, every name can be told and asked for.

What is made of it is the fleet's and the finder's business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

import attrs

from nexus.api import Secret
from nexus.model import MOST_MODELS, Model, Report, Sighting
from nexus.plain import is_name, sentence
from nexus.redaction import redacted_text

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._:@-]+")
_LONGEST_WORD = 64  # of a backend's name, a code, a version


def report_of(report: Report) -> tuple[Report, int]:
    """The report with every text fit to be told, and how many models it leaves out.

    A model is left out where no request could ask for its id: one that holds a control character or half a character, is empty
    or is longer than any honest name.  So are those beyond MOST_MODELS.  Further ids of that kind are left
    out of their models.  Raises TypeError, ValueError or AttributeError for a report that is not made as the contract says.
    """
    models = None if report.models is None else tuple(models_of(report.models[:MOST_MODELS]))
    told = attrs.evolve(
        report,
        models=models,
        code=_word(report.code),
        problem=sentence(report.problem),
        version=_word(report.version),
        capacity=_count(report.capacity),
        load=_count(report.load),
        eta=report.eta if report.eta is not None and math.isfinite(report.eta) else None,
    )
    return told, 0 if models is None else len(report.models or ()) - len(models)


def without_secrets(report: Report, secrets: Iterable[Secret]) -> Report:
    """The report without what its backend must not be heard to say; a model whose id says it is left out."""
    known = tuple(secrets)
    if not known:
        return report
    models = None if report.models is None else tuple(m for m in report.models if not _says(m, known))
    return attrs.evolve(
        report,
        models=report.models if models is None or len(models) == len(report.models or ()) else models,
        code=redacted_text(report.code, known),
        problem=redacted_text(report.problem, known),
        version=redacted_text(report.version, known),
    )


def _says(model: Model, secrets: tuple[Secret, ...]) -> bool:
    said = "\n".join((model.id, model.evidence, *model.aliases))
    return redacted_text(said, secrets) != said


def models_of(models: Iterable[Model]) -> Iterable[Model]:
    """Those that a request can ask for, by ids that it can say.  Raises as `report_of` does."""
    return [_with_names(model) for model in models if is_name(model.id)]


def _with_names(model: Model) -> Model:
    return model if all(map(is_name, model.aliases)) else attrs.evolve(model, aliases=tuple(filter(is_name, model.aliases)))


def sighting_of(sighting: Sighting) -> Sighting | None:
    """The sighting with every text fit to be told, its name one that a backend may have; None where its URL is none."""
    try:
        parts = urlsplit(sighting.url)
        readable = is_name(sighting.url) and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, TypeError, AttributeError):
        return None
    if not readable:
        return None
    name = sighting.name and _NOT_IN_A_NAME.sub("-", sighting.name).strip("._:@-")[:_LONGEST_WORD]
    return attrs.evolve(sighting, name=name or None, evidence=sentence(sighting.evidence))


def _word(text: str) -> str:
    return sentence(text[:_LONGEST_WORD])


def _count(number: int | None) -> int | None:
    return None if number is None else max(int(number), 0)
