"""The core's lines of the table of failures: what servers of any kind and the clouds answer.  How a table is read is in `nexus.outcome`.

Lines by words come before lines by status alone.  Servers' own words are data of their kinds (`BackendKind.failures`).
"""

from __future__ import annotations

from nexus.model import COMPLETION, COUNT, EMBEDDING, IMAGE_URL, JSON_SCHEMA, TOOLS, VISION, FailureRule, Fault

OVERFLOW, LOADING = "context_length_exceeded", "loading"
KEY_REFUSED = "refuses the configured key (api_key_env)"
ANY_5XX = range(500, 600)
_SPEAKS_OF_IT = (
    400,
    401,
    402,
    403,
    404,
    409,
    412,
    422,
    429,
    *ANY_5XX,
)  # where words about an account are its, and not what a client has asked about
_REJECTS = (400, 404, 415, 422, 500, 501)  # by which servers say that they cannot; of an account they say as much by others


def _cannot(need: str, *words: str, source: str) -> FailureRule:
    return FailureRule(fault=Fault.NEED, status=_REJECTS, code=f"no_{need}", words=words, source=source)


# ---------------------------------------------------------------- the request

REQUEST = (
    FailureRule(
        fault=Fault.REQUEST,
        status=(400, 413, 422, *ANY_5XX),
        codes=("context_length_exceeded", "exceed_context_size_error", "context_window_exceeded"),
        words=(
            "prompt is too long",
            "request (… tokens) exceeds the available context size",
            "the request exceeds the available context size",
            "input (… tokens) is too large to process",
            "input is too large to process",
            "this model's maximum context length is",
            "this endpoint's maximum context length is",
            "the input (… tokens) is longer than the model's context length",
            "the … prompt (length …) is longer than the maximum model length of",
            "the input length exceeds the context length",
            "input length exceeds the context length",
            "the prompt exceeds the context",
            "requested tokens (…) exceed context window of",
            "trying to keep the first … tokens when context the overflows",
            "input validation error: `inputs` tokens + `max_new_tokens` must be",
            "prompt contains … tokens …, too large for model with",
            "the input token count (…) exceeds the maximum number of tokens allowed",
            "the input token count exceeds the maximum number of tokens allowed",
        ),
        code=OVERFLOW,
        reason="the prompt is too long",
        source="llama.cpp, llama-cpp-python, vLLM, SGLang, Ollama, LM Studio, TGI, OpenRouter, the clouds",
    ),
    # more tokens than the account has for a whole minute: no pause helps this request, and no other needs one
    FailureRule(
        fault=Fault.REQUEST,
        status=(413, 429),
        words="request too large for",
        code="request_too_large",
        source="OpenAI, Groq",
    ),
)

# ---------------------------------------------------------------- the account, the key

ACCOUNT = (
    FailureRule(
        fault=Fault.BUSY,
        status=429,
        codes="resource_exhausted",
        code="rate",
        source="Google, whose words for a minute are those for a month",
    ),
    FailureRule(
        fault=Fault.ACCOUNT,
        status=_SPEAKS_OF_IT,
        codes=(
            "insufficient_quota",
            "insufficient_balance",
            "insufficient_funds",
            "billing_error",
            "billing_not_active",
            "billing_hard_limit_reached",
            "budget_exceeded",
            "exceeded_current_quota_error",
            "payment_required",
            "quota_exceeded",
            "arrearage",
        ),
        words=(
            "you exceeded your current quota",
            "you have exceeded your current quota",
            "your credit balance is too low",
            "insufficient balance",
            "insufficient credits",
            "insufficient funds",
            "this request requires more credits",
            "budget has been exceeded",
            "you have reached your specified api usage limits",
            "you've reached your usage limit",
            "you have exceeded your monthly",
            "your team … has either used all available credits",
            "monthly limit exceeded",
            "key limit exceeded",
            "this api method requires billing to be enabled",
        ),
        code="money",
        reason="the account has no money or quota left",
        source="OpenAI, Anthropic, Google, DeepSeek, OpenRouter, xAI, LiteLLM",
    ),
    FailureRule(
        fault=Fault.ACCOUNT,
        status=_SPEAKS_OF_IT,
        codes=(
            "account_deactivated",
            "account_suspended",
            "access_terminated",
            "organization_deactivated",
            "unsupported_country_region_territory",
        ),
        words=(
            "your account is not active",
            "your account has been suspended",
            "your account has been deactivated",
            "your account has been disabled",
            "your account has been blocked",
            "your account … is suspended",
            "this organization has been disabled",
            "the openai account associated with this api key has been deactivated",
            "country, region, or territory not supported",
            "user location is not supported",
            "account … is suspended",
            "permission denied: consumer … has been suspended",
        ),
        code="account",
        reason="the account is closed to this use",
        source="OpenAI, Anthropic, Google, Fireworks, Moonshot",
    ),
    FailureRule(
        fault=Fault.PERMISSION,
        status=(401, 403),
        codes=("model_not_allowed", "key_model_access_denied", "model_permission_blocked_org", "model_permission_blocked_project"),
        words=(
            "project … does not have access to model",
            "the model … does not exist or you do not have access",
            "you do not have access to",
            "your api key does not have permission",
            "your organization must be verified to use the model",
            "this model requires a subscription",
            "key not allowed to access model",
            "you have insufficient permissions for this operation",
            "you don't have access to the model",
        ),
        code="permission",
        reason="the key may not use this model",
        source="OpenAI, Groq, Bedrock, Ollama's cloud, LiteLLM, another Nexus",
    ),
    FailureRule(
        fault=Fault.PERMISSION,
        status=404,
        words="no endpoints found matching your data policy",
        code="permission",
        reason="the account's data policy leaves no provider for this model",
        source="OpenRouter",
    ),
    FailureRule(
        fault=Fault.PERMISSION,
        status=403,
        codes="model_not_found",
        code="permission",
        reason="the key may not use this model",
        source="OpenAI",
    ),
    FailureRule(
        fault=Fault.ACCOUNT,
        status=_SPEAKS_OF_IT,
        codes=(
            "invalid_api_key",
            "api_key_invalid",
            "invalid_authentication_error",
            "token_expired",
            "expired_api_key",
            "expired_key",
            "token_not_found_in_db",
        ),
        words=(
            "incorrect api key provided",
            "api key not valid",
            "api key expired",
            "invalid api key",
            "invalid x-api-key",
            "your api key is invalid",
            "you didn't provide an api key",
            "no auth credentials found",
            "access denied due to invalid subscription key",
            "authentication error, ",
        ),
        code="key",
        reason=KEY_REFUSED,
        source="OpenAI, Azure, Google, Anthropic, OpenRouter, LiteLLM, llama.cpp",
    ),
)

# ---------------------------------------------------------------- busy, loading

# a model that is loaded first: llama.cpp says so with the type by which it and others call themselves unavailable
BUSY = (
    FailureRule(
        fault=Fault.BUSY,
        status=(400, 404, 409, 425, 429, *ANY_5XX),
        codes=("model_loading", "model_is_loading"),
        words=(
            "loading model",
            "model … is loading",
            "model … is currently loading",
            "model is loading",
            "the model is loading",
            "unexpected server status: llm server loading model",
        ),
        code=LOADING,
        pause=2.0,
        source="llama.cpp, Ollama, LM Studio, Hugging Face, TabbyAPI",
    ),
    FailureRule(
        fault=Fault.BUSY,
        status=(429, 498, *ANY_5XX),
        codes=(
            "overloaded_error",
            "overloaded",
            "server_overloaded",
            "engine_overloaded",
            "concurrency_limit",
            "unavailable_error",
        ),
        words=(
            "overloaded",
            "the engine is currently overloaded",
            "that model is currently overloaded",
            "the model is overloaded",
            "the server is overloaded",
            "server overloaded",
            "server is overloaded",
            "service overloaded",
            "service is overloaded",
            "the service is overloaded",
            "server is currently overloaded",
            "the server is currently overloaded",
            "service tier capacity exceeded",
            "flex tier capacity exceeded",
            "server busy",
            "server is busy",
            "the request queue is full",
        ),
        code="busy",
        pause=2.0,
        source="OpenAI, Anthropic, Google, Groq, Mistral, DeepSeek, SGLang, KoboldCpp, llama-swap",
    ),
    FailureRule(
        fault=Fault.BUSY, status=503, words="request dropped due to backpressure", code="busy", pause=1.0, source="Ray Serve"
    ),
)

# ---------------------------------------------------------------- the model

MODEL = (
    FailureRule(
        fault=Fault.MODEL,
        status=(400, 404, 410, 422, 500),
        codes=("model_not_found", "model_decommissioned", "deploymentnotfound", "model_not_available", "invalid_model"),
        words=(
            "model '…' not found",
            'model "…" not found',
            "the model … does not exist",
            "the model … has been decommissioned",
            "the model … has been deprecated",
            "model … not found",
            "models/… is not found",
            "model not exist",
            "invalid model name",
            "… is not a valid model id",
            "no models loaded",
            "no models are currently loaded",
            "no endpoints found for",
        ),
        code="model_not_found",
        source="OpenAI, vLLM, Ollama, llama.cpp's router, Anthropic, Google, Groq, Mistral, DeepSeek, OpenRouter, LM Studio, TabbyAPI, LiteLLM",
    ),
    FailureRule(
        fault=Fault.MODEL, status=404, codes=("not_found_error", "not_found"), code="model_not_found", source="Anthropic, Google"
    ),
    FailureRule(fault=Fault.MODEL, status=400, words="model unloaded", alone=True, code="model_failed", source="LM Studio"),
    FailureRule(
        fault=Fault.MODEL,
        status=(400, *ANY_5XX),
        words=(
            "failed to load model",
            "could not load model",
            "unable to load model",
            "error loading model",
            "the model has crashed",
        ),
        code="model_failed",
        source="LM Studio, LocalAI, Ollama",
    ),
)

# ---------------------------------------------------------------- what a model cannot do, what a server does not have

NEEDS = (
    _cannot(
        IMAGE_URL,
        "'url' field must be a base64 encoded image",
        "invalid image source type: url",
        "invalid image url",
        "image urls are not",
        source="LM Studio, Ollama",
    ),
    _cannot(
        VISION,
        "image input is not supported",
        "image input not supported",
        "… is not a multimodal model",
        "at most 0 image",
        "model does not support image",
        "this model does not support image",
        "… does not support image",
        "this model is missing data required for image input",
        "invalid content type. image_url is only supported",
        "no endpoints found that support image input",
        source="llama.cpp, vLLM, LM Studio, Ollama, Anthropic, OpenAI, OpenRouter",
    ),
    _cannot(
        "documents",
        "pdf input is not supported",
        "… does not support pdf",
        "… does not support document",
        source="Anthropic",
    ),
    _cannot(
        TOOLS,
        "tools param requires --jinja",
        '"auto" tool choice requires --enable-auto-tool-choice',
        "tool_choice=… requires --tool-call-parser",
        "… does not support tool",
        "… does not support function calling",
        "'tools' is not supported with this model",
        "'tools' is not supported",
        "tools are not supported",
        "tool calling is not supported",
        "`tool calling` is not supported",
        "tool use is not supported",
        "no endpoints found that support tool use",
        source="llama.cpp, vLLM, Ollama, OpenAI, Groq, OpenRouter",
    ),
    _cannot(
        EMBEDDING,
        "this server does not support embeddings",
        "… does not support embedding",
        "embeddings are not supported",
        "embedding is not supported",
        "the model does not support embeddings api",
        source="llama.cpp, Ollama, vLLM",
    ),
    _cannot(
        COMPLETION,
        "… does not support completion",
        "completions are not supported",
        "this is a chat model and not supported in the v1/completions endpoint",
        source="Ollama, OpenAI",
    ),
    _cannot(
        JSON_SCHEMA,
        "invalid parameter: 'response_format' of type 'json_schema' is not supported",
        "this model does not support response format `json_schema`",
        "… does not support json_schema",
        "… does not support structured output",
        "structured outputs are not supported",
        "output_config is not supported",
        "output_format is not supported",
        source="OpenAI, Groq, Anthropic",
    ),
    _cannot(COUNT, "… does not support token counting", "token counting is not supported", source="servers of Anthropic's API"),
)

PATHS = (
    FailureRule(
        fault=Fault.PATH,
        status=(404, 405, 501),
        words=(
            "not found",
            "404 page not found",
            "404: not found",
            "404 not found",
            "method not allowed",
            "405 method not allowed",
            "405: method not allowed",
            "not implemented",
        ),
        alone=True,
        source="vLLM, transformers serve, llama.cpp, Ollama, mlx-lm and everything else behind FastAPI, Go or Python",
    ),
    FailureRule(fault=Fault.PATH, status=(405, 501), words="", alone=True, source="Go's net/http"),
    FailureRule(
        fault=Fault.PATH,
        status=(200, 404, 405, 501),
        words=(
            "unexpected endpoint or method",
            "invalid url (post",
            "unknown request url",
            "cannot post /",
            "error cannot post /",
            "no route matched",
            "unsupported method ('post')",
        ),
        source="LM Studio, OpenAI, Groq, Express, Kong, mlx-lm",
    ),
)

# ---------------------------------------------------------------- by the status alone

STATUSES = (
    FailureRule(
        fault=Fault.REQUEST, status=(400, 405, 406, 409, 411, 412, 413, 414, 415, 416, 417, 418, 422, 423, 426, 428, 431, 451, 499)
    ),
    FailureRule(fault=Fault.ACCOUNT, status=401, reason=KEY_REFUSED),
    FailureRule(fault=Fault.ACCOUNT, status=402, reason="the account has no money or quota left"),
    FailureRule(fault=Fault.BLOCKED, status=403),
    FailureRule(fault=Fault.MODEL, status=(404, 410)),
    FailureRule(fault=Fault.BUSY, status=429, pause=5.0),
    FailureRule(fault=Fault.BUSY, status=(498, 529), pause=2.0),
    FailureRule(fault=Fault.BUSY, status=(503, 425), retry_after=True),
    FailureRule(fault=Fault.BROKEN, status=(*range(300, 400), 408, 424, 425, *ANY_5XX)),
    FailureRule(fault=Fault.REQUEST, status=range(400, 500)),
)

WORDS = (*REQUEST, *ACCOUNT, *BUSY, *NEEDS, *PATHS, *MODEL)
"""The core's lines by words, in the order in which they are tried; after a kind's own, and before STATUSES."""
