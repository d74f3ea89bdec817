"""The promises of a backend, for vLLM."""

import nexus_vllm

from nexus.testing import vllm_server
from nexus.testing.contracts import BackendContract


class TestVLLM(BackendContract):
    kind = nexus_vllm.KIND
    models = ("tiny",)

    def server(self):
        return vllm_server(models=self.models)
