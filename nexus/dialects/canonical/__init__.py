"""The canonical form: what every dialect can be read into and written from.  No wire format and no JSON shape lives here.

A request is a `Conversation`, a whole reply an `Answer`, a streamed reply a run of `StreamEvent`s.  The form carries what
dialects have in common; what one side says and the other cannot is a `Loss`, declared by the dialect that drops it.
"""

from nexus.dialects.canonical.content import Document, Image, Part, Reasoning, Text, ToolCall, ToolResult, made_call_id, made_id
from nexus.dialects.canonical.failure import Failure, FailureKind
from nexus.dialects.canonical.losses import Loss, Losses, Lost, in_words
from nexus.dialects.canonical.reply import Answer, FinishReason, ReplyContext
from nexus.dialects.canonical.request import (
    ANY_NAME,
    Conversation,
    Format,
    Message,
    ResponseFormat,
    Role,
    Target,
    Thinking,
    Tool,
    ToolChoice,
    ToolMode,
    joined,
    must_call,
)
from nexus.dialects.canonical.stream import (
    Begin,
    Finish,
    ReasoningDelta,
    ReasoningSignature,
    RedactedReasoning,
    RefusalDelta,
    StreamDecoder,
    StreamEncoder,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageSeen,
)

__all__ = [
    "ANY_NAME",
    "Answer",
    "Begin",
    "Conversation",
    "Document",
    "Failure",
    "FailureKind",
    "Finish",
    "FinishReason",
    "Format",
    "Image",
    "Loss",
    "Losses",
    "Lost",
    "Message",
    "Part",
    "Reasoning",
    "ReasoningDelta",
    "ReasoningSignature",
    "RedactedReasoning",
    "RefusalDelta",
    "ReplyContext",
    "ResponseFormat",
    "Role",
    "StreamDecoder",
    "StreamEncoder",
    "StreamEvent",
    "Target",
    "Text",
    "TextDelta",
    "Thinking",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolCallStart",
    "ToolChoice",
    "ToolMode",
    "ToolResult",
    "UsageSeen",
    "in_words",
    "joined",
    "made_call_id",
    "made_id",
    "must_call",
]
