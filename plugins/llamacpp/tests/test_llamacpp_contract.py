"""The promises of a backend, for llama.cpp."""

import nexus_llamacpp

from nexus.testing import llamacpp_server
from nexus.testing.contracts import BackendContract


class TestLlamaCpp(BackendContract):
    kind = nexus_llamacpp.KIND
    models = ("tiny",)
    probe_posts = frozenset({"/v1/messages/count_tokens"})  # without a message: it is refused before anything is done

    def server(self):
        return llamacpp_server(models=self.models)
