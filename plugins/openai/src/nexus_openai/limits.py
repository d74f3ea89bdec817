"""What OpenAI's cloud takes in a chat request, as its API reference and its errors have it (2026-11)."""

from __future__ import annotations

from nexus.api import Accepts, SchemaRules

# "Structured model outputs", supported schemas; what is not there is answered with "… is not permitted".
SCHEMA = SchemaRules(
    keywords=frozenset(
        {
            "type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const", "$ref", "$defs", "definitions",
            "title", "description", "pattern", "format", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
            "minItems", "maxItems",
        }
    ),
    formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}),
    all_required=True,
    root_object=True,
    typed_items=True,
    depth=10,
    properties=5000,
)  # fmt: skip

OPENAI = Accepts(
    tool_name_chars=64,
    tool_name_letters="a-zA-Z0-9_-",
    tools=128,
    plain_tools=True,
    user_chars=64,
    user_names_nobody=True,
    image_types=frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"}),
    document_types=frozenset({"application/pdf"}),
    temperature=(0, 2),
    top_p=(0, 1),
    penalty=(-2, 2),
    stops=4,
    tuned_thinking=False,
    schema=SCHEMA,
    late_system=True,
    thinking="none",
)
