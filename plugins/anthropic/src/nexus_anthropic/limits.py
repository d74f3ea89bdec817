"""What Anthropic's cloud takes in a message request, as its documentation and its errors have it (2026-11).

What depends on the model's family is in `families`.
"""

from __future__ import annotations

from nexus.api import Accepts, SchemaRules

# "Structured outputs", JSON schema limitations.
SCHEMA = SchemaRules(
    keywords=frozenset(
        {
            "type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const", "$ref", "$defs", "definitions",
            "title", "description", "default", "format", "minItems",
        }
    ),
    formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}),
    recursive=False,
    most_min_items=1,
)  # fmt: skip

ANTHROPIC = Accepts(
    tool_name_chars=128,
    tool_name_letters="a-zA-Z0-9_-",
    plain_tools=True,
    user_chars=256,
    user_names_nobody=True,
    image_types=frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"}),
    document_types=frozenset({"application/pdf"}),
    temperature=(0, 1),
    top_p=(0, 1),
    blank_stops=False,
    schema=SCHEMA,
    strict_answers=True,
    late_system=True,
    thinking="signed",
)
