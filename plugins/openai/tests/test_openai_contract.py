"""The promises of a backend, for every kind of this package."""

import nexus_openai

from nexus.testing import (
    litellm_server,
    llamafile_server,
    llamaswap_server,
    localai_server,
    mlx_server,
    openai_server,
    rayserve_server,
    transformers_server,
)
from nexus.testing.contracts import BackendContract

KINDS = {kind.name: kind for kind in nexus_openai.KINDS}


class TestCompatible(BackendContract):
    kind = KINDS["openai-compatible"]
    models = ("tiny",)
    generic = True

    def server(self):
        return openai_server(models=self.models)


class TestLocalAI(BackendContract):
    kind = KINDS["localai"]
    models = ("tiny",)

    def server(self):
        return localai_server(models=self.models)


class TestLlamaSwap(BackendContract):
    kind = KINDS["llamaswap"]
    models = ("tiny",)

    def server(self):
        return llamaswap_server(models=self.models)


class TestLlamafile(BackendContract):
    kind = KINDS["llamafile"]
    models = ("tiny",)

    def server(self):
        return llamafile_server(models=self.models)


class TestRayServe(BackendContract):
    kind = KINDS["rayserve"]
    models = ("tiny",)

    def server(self):
        return rayserve_server(models=self.models)


class TestLiteLLM(BackendContract):
    kind = KINDS["litellm"]
    models = ("tiny",)

    def server(self):
        return litellm_server(models=self.models)


class TestOpenAI(BackendContract):
    kind = KINDS["openai"]
    models = ("gpt-4o",)

    def server(self):
        return openai_server(models=self.models)


class TestTransformers(BackendContract):
    kind = KINDS["transformers"]
    models = ("org/tiny",)

    def server(self):
        return transformers_server(models=self.models)


class TestMLX(BackendContract):
    kind = KINDS["mlx"]
    models = ("org/tiny",)

    def server(self):
        return mlx_server(models=self.models)
