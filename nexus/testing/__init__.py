"""The kit for plugin authors: scripted servers, doubles of inference servers, builders, fixtures and contract classes.

pytest is imported by `fixtures` and `contracts` only: the doubles are also what `nexus demo` runs.
"""

from nexus.testing.acts import (
    Act,
    CutAfter,
    Dribble,
    ErrorEventFirst,
    Hang,
    Held,
    Malformed,
    Respond,
    Slow,
    Stream,
    Wire,
    sse,
)
from nexus.testing.builders import (
    FakeClock,
    a_body,
    a_call,
    a_candidate,
    a_leg,
    a_model,
    a_plan,
    a_report,
    a_request,
    an_ask,
    every_event,
)
from nexus.testing.incoming import Received
from nexus.testing.scope import a_scope
from nexus.testing.servers import (
    FakeModel,
    FakeServer,
    Pace,
    litellm_server,
    llamacpp_server,
    llamafile_server,
    llamaswap_server,
    localai_server,
    ollama_server,
    openai_server,
    rayserve_server,
    vllm_server,
)
from nexus.testing.upstream import ScriptedUpstream
from nexus.testing.waits import until

__all__ = [
    "Act",
    "CutAfter",
    "Dribble",
    "ErrorEventFirst",
    "FakeClock",
    "FakeModel",
    "FakeServer",
    "Hang",
    "Held",
    "Malformed",
    "Pace",
    "Received",
    "Respond",
    "ScriptedUpstream",
    "Slow",
    "Stream",
    "Wire",
    "a_body",
    "a_call",
    "a_candidate",
    "a_leg",
    "a_model",
    "a_plan",
    "a_report",
    "a_request",
    "a_scope",
    "an_ask",
    "every_event",
    "litellm_server",
    "llamacpp_server",
    "llamafile_server",
    "llamaswap_server",
    "localai_server",
    "ollama_server",
    "openai_server",
    "rayserve_server",
    "sse",
    "until",
    "vllm_server",
]
