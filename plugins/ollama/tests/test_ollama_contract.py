"""The promises of a backend, for Ollama."""

import nexus_ollama

from nexus.testing import ollama_server
from nexus.testing.contracts import BackendContract


class TestOllama(BackendContract):
    kind = nexus_ollama.KIND
    models = ("tiny:latest",)

    def server(self):
        return ollama_server(models=self.models)
