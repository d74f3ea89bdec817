"""Doubles of inference servers on real sockets, for tests and for `nexus demo`.  No pytest here."""

from nexus.testing.servers.anthropic import AnthropicServer, anthropic_event, anthropic_problem, anthropic_server
from nexus.testing.servers.base import FakeModel, FakeServer, Knobs, Pace
from nexus.testing.servers.huggingface import MLXServer, TransformersServer, mlx_server, transformers_server
from nexus.testing.servers.llamacpp import LlamaCppServer, llamacpp_server
from nexus.testing.servers.ollama import OllamaServer, ollama_server
from nexus.testing.servers.openai import OpenAIServer, openai_server
from nexus.testing.servers.others import (
    LiteLLMServer,
    litellm_server,
    llamafile_server,
    llamaswap_server,
    localai_server,
    rayserve_server,
)
from nexus.testing.servers.vllm import VLLMServer, vllm_server

__all__ = [
    "AnthropicServer",
    "FakeModel",
    "FakeServer",
    "Knobs",
    "LiteLLMServer",
    "LlamaCppServer",
    "MLXServer",
    "OllamaServer",
    "OpenAIServer",
    "Pace",
    "TransformersServer",
    "VLLMServer",
    "anthropic_event",
    "anthropic_problem",
    "anthropic_server",
    "litellm_server",
    "llamacpp_server",
    "llamafile_server",
    "llamaswap_server",
    "localai_server",
    "mlx_server",
    "ollama_server",
    "openai_server",
    "rayserve_server",
    "transformers_server",
    "vllm_server",
]
