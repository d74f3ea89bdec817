"""The promises of a backend, for the echo server: the kit's contract, over a double that answers as the real one does."""

from nexus_echo import KIND

from nexus.testing import Respond, ScriptedUpstream
from nexus.testing.contracts import BackendContract


class TestEcho(BackendContract):
    kind = KIND
    models = ("parrot",)

    def server(self) -> ScriptedUpstream:
        said = {"echo": {"version": "1.0", "slots": 4}, "models": [{"id": "parrot", "context": 4096}]}
        return ScriptedUpstream().on("/echo", Respond(json=said), method="GET")
