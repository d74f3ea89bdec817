"""The table of failures: what is said by whom means what, and never by what the request itself has said."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.catalog import Catalog
from nexus.dialects.complaints import complaint_in_stream, complaint_of
from nexus.dialects.rejections import overflow_in
from nexus.echoes import MOST_BYTES, WINDOW, echoed
from nexus.failures import STATUSES, WORDS
from nexus.model import FailureRule, Fault
from nexus.outcome import REJECTED_BY_STATUS, VERDICTS, Answer, FailureTable
from nexus.pauses import asked_for

KINDS = {name: kind.failures for name, kind in Catalog.load().backends.items()}
TABLE = FailureTable(KINDS)


def openai(message, code=None, type="t"):
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


def anthropic(type, message):
    return {"type": "error", "error": {"type": type, "message": message}}


def verdict(status, body, *, kind="openai-compatible", says_when=False, needs=(), path_known=False, request=b"{}"):
    """What the table says, as an attempt asks it."""
    said = complaint_of(body if isinstance(body, bytes) else json.dumps(body).encode())
    answer = Answer(
        status=status,
        message=said.message,
        codes=said.codes,
        says_when=says_when,
        needs=frozenset(needs),
        path_known=path_known,
    )
    for found in TABLE.judge(kind, answer):
        if found.words is None or not asyncio.run(echoed(found.words, (request,))):
            return found
    raise AssertionError


# what a real server or a cloud has answered, and whose fault it is
SAID = [
    # the request
    (400, openai("Missing required parameter: 'messages'.", type="invalid_request_error"), Fault.REQUEST),
    (422, {"detail": [{"loc": ["body", "n"], "msg": "Input should be a valid integer"}]}, Fault.REQUEST),
    (413, b"<html><h1>413 Request Entity Too Large</h1></html>", Fault.REQUEST),
    (
        500,
        openai("input (1501 tokens) is too large to process. increase the physical batch size (current batch size: 512)"),
        Fault.REQUEST,
    ),
    (
        400,
        {
            "error": {
                "code": 400,
                "message": "request (18010 tokens) exceeds the available context size (4096 tokens), try increasing it",
                "type": "exceed_context_size_error",
            }
        },
        Fault.REQUEST,
    ),
    (
        400,
        openai(
            '{"error":{"code":400,"message":"request (18010 tokens) exceeds the available context size (4096 tokens), try increasing it","type":"exceed_context_size_error"}}'
        ),
        Fault.REQUEST,
    ),
    (
        400,
        openai(
            "litellm.ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError: OpenAIException - request (18010 tokens) exceeds the available context size (4096 tokens)",
            "400",
        ),
        Fault.REQUEST,
    ),
    (500, openai("The decoder prompt (length 5000) is longer than the maximum model length of 4096."), Fault.REQUEST),
    (500, {"error": "the input length exceeds the context length"}, Fault.REQUEST),
    (500, openai("input length exceeds the context length"), Fault.REQUEST),
    (500, openai("Requested tokens (4116) exceed context window of 4096"), Fault.REQUEST),
    *[
        (
            429,
            openai(
                before
                + "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 44224. "
                "The input or output tokens must be reduced in order to run successfully.",
                "rate_limit_exceeded",
                type="tokens",
            ),
            Fault.REQUEST,
        )
        for before in ("", "litellm.RateLimitError: RateLimitError: OpenAIException - ")
    ],
    (
        413,
        openai(
            "Request too large for model `llama-3.1-8b-instant` in organization `org_01` service tier `on_demand` on tokens per minute "
            "(TPM): Limit 6000, Requested 12000, please reduce your message size and try again.",
            "rate_limit_exceeded",
            type="tokens",
        ),
        Fault.REQUEST,
    ),
    # what is left of the minute is another matter
    (
        429,
        openai(
            "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. "
            "Please try again in 2s.",
            "rate_limit_exceeded",
            type="tokens",
        ),
        Fault.BUSY,
    ),
    (
        429,
        anthropic(
            "rate_limit_error", "This request would exceed your organization's rate limit of 30,000 input tokens per minute."
        ),
        Fault.BUSY,
    ),
    # the account, the key
    (422, openai("Your credit balance is too low"), Fault.ACCOUNT),
    (409, openai("no", "insufficient_quota"), Fault.ACCOUNT),
    (402, openai("Insufficient Balance", "invalid_request_error", "unknown_error"), Fault.ACCOUNT),
    (402, b"", Fault.ACCOUNT),
    (
        429,
        openai(
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            "insufficient_quota",
        ),
        Fault.ACCOUNT,
    ),
    (
        400,
        anthropic(
            "invalid_request_error", "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
        ),
        Fault.ACCOUNT,
    ),
    (403, anthropic("billing_error", "payment failed"), Fault.ACCOUNT),
    (
        400,
        [{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}}],
        Fault.ACCOUNT,
    ),
    (401, openai("Incorrect API key provided: sk-a*.", "invalid_api_key"), Fault.ACCOUNT),
    (401, b"nonsense", Fault.ACCOUNT),
    (403, openai("The OpenAI account associated with this API key has been deactivated.", "account_deactivated"), Fault.ACCOUNT),
    (400, openai("Budget has been exceeded! Current cost: 1.2, Max budget: 1", "400", "budget_exceeded"), Fault.ACCOUNT),
    # what this key may do with this model
    (403, openai("Project `proj_1` does not have access to model `gpt-x`", "model_not_found"), Fault.PERMISSION),
    (403, openai("this model requires a subscription, upgrade for access: https://ollama.com/upgrade"), Fault.PERMISSION),
    # a wall before the server, which may have disliked a prompt
    (
        403,
        b"<!doctype html><html><head><title>Attention Required! | Cloudflare</title></head><body><h1>Sorry, you have been blocked</h1></body>",
        Fault.BLOCKED,
    ),
    (403, openai("Input flagged", 403), Fault.BLOCKED),
    # the model
    (404, openai("The model `x` does not exist or you do not have access to it.", "model_not_found"), Fault.MODEL),
    (400, openai("The model `x` does not exist", "model_not_found"), Fault.MODEL),
    (400, openai("model 'nosuch' not found"), Fault.MODEL),
    (
        404,
        {
            "object": "error",
            "message": "The model `nosuch` does not exist. Valid aliases: nexus/tiny.",
            "type": "NotFoundError",
            "code": 404,
        },
        Fault.MODEL,
    ),
    (404, anthropic("not_found_error", "model: claude-x"), Fault.MODEL),
    (500, {"error": {"code": 500, "message": "model name=broken failed to load", "type": "server_error"}}, Fault.MODEL),
    (
        500,
        {
            "src": "llama-swap",
            "error": {
                "message": "unspecific error: upstream command exited prematurely",
                "type": "server_error",
                "code": "internal_error",
            },
        },
        Fault.MODEL,
    ),
    (500, {"error": "model requires more system memory (5.6 GiB) than is available (4.2 GiB)"}, Fault.MODEL),
    (
        500,
        openai('Post "https://ollama.com:443/api/chat?ts=1": dial tcp: lookup ollama.com: no such host', type="api_error"),
        Fault.MODEL,
    ),
    # busy, loading
    (429, openai("Rate limit reached for gpt-x", "rate_limit_exceeded"), Fault.BUSY),
    (
        429,
        {
            "error": {
                "code": 429,
                "status": "RESOURCE_EXHAUSTED",
                "message": "You exceeded your current quota, please check your plan",
            }
        },
        Fault.BUSY,
    ),
    (503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, Fault.BUSY),
    (503, b"Request dropped due to backpressure (num_queued_requests=1, max_queued_requests=1).", Fault.BUSY),
    (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, Fault.BUSY),
    (429, {"src": "llama-swap", "error": {"message": "too many requests", "code": "concurrency_limit"}}, Fault.BUSY),
    (529, anthropic("overloaded_error", "Overloaded"), Fault.BUSY),
    (529, b"", Fault.BUSY),
    (500, openai("server is overloaded, please retry"), Fault.BUSY),
    (500, openai("The server is currently overloaded"), Fault.BUSY),
    (503, openai("The engine is currently overloaded, please try again later", type="server_error"), Fault.BUSY),
    (503, {"error": "Model meta-llama/x is currently loading", "estimated_time": 20.0}, Fault.BUSY),
    (400, {"error": "Model llama is loading"}, Fault.BUSY),
    (498, openai("flex tier capacity exceeded"), Fault.BUSY),
    # LM Studio, TabbyAPI, LocalAI, KoboldCpp, TGI
    (400, {"error": "The model has crashed without additional information. (Exit code: 11)"}, Fault.MODEL),
    (400, {"error": "Model unloaded."}, Fault.MODEL),
    (400, {"detail": "No models are currently loaded."}, Fault.MODEL),
    (500, openai("could not load model: rpc error: code = Unknown desc = failed loading model"), Fault.MODEL),
    (503, {"detail": {"msg": "Server is busy; please try again later.", "type": "service_unavailable"}}, Fault.BUSY),
    (429, {"error": "Model is overloaded", "error_type": "overloaded"}, Fault.BUSY),
    (500, {"error": "unexpected server status: llm server loading model"}, Fault.BUSY),
    # clouds
    (404, {"error": {"message": "No endpoints found for foo/bar.", "code": 404}}, Fault.MODEL),
    (
        404,
        {"error": {"message": "No endpoints found matching your data policy (Free model training).", "code": 404}},
        Fault.PERMISSION,
    ),
    (
        403,
        {
            "error": {
                "message": "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys",
                "code": 403,
            }
        },
        Fault.ACCOUNT,
    ),
    (400, {"object": "error", "message": "Invalid model: foo", "type": "invalid_model", "code": "1500"}, Fault.MODEL),
    (
        429,
        {"object": "error", "message": "Service tier capacity exceeded for this model.", "type": "service_tier_capacity_exceeded"},
        Fault.BUSY,
    ),
    (
        400,
        [{"error": {"code": 400, "message": "User location is not supported for the API use.", "status": "FAILED_PRECONDITION"}}],
        Fault.ACCOUNT,
    ),
    (
        403,
        [{"error": {"code": 403, "message": "This API method requires billing to be enabled.", "status": "PERMISSION_DENIED"}}],
        Fault.ACCOUNT,
    ),
    (
        403,
        [
            {
                "error": {
                    "code": 403,
                    "message": "Permission denied: Consumer 'api_key:x' has been suspended.",
                    "status": "PERMISSION_DENIED",
                }
            }
        ],
        Fault.ACCOUNT,
    ),
    (
        503,
        [{"error": {"code": 503, "message": "The model is overloaded. Please try again later.", "status": "UNAVAILABLE"}}],
        Fault.BUSY,
    ),
    (
        400,
        openai(
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", "content_filter"
        ),
        Fault.REQUEST,
    ),
    (
        404,
        {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}},
        Fault.MODEL,
    ),
    (401, openai("You have insufficient permissions for this operation. Missing scopes: model.request."), Fault.PERMISSION),
    (403, {"message": "You don't have access to the model with the specified model ID."}, Fault.PERMISSION),
    (412, openai("Account x is suspended, possibly due to reaching the monthly spending limit."), Fault.ACCOUNT),
    (
        400,
        openai("Authentication Error, Authentication Error - Expired Key. Key Expiry time 2024", "400", "expired_key"),
        Fault.ACCOUNT,
    ),
    (
        429,
        openai("Your account is not active, please check your billing details on our website.", "billing_not_active"),
        Fault.ACCOUNT,
    ),
    (
        429,
        {
            "code": "Some resource has been exhausted",
            "error": "Your team abc has either used all available credits or reached its monthly spending limit.",
        },
        Fault.ACCOUNT,
    ),
    # walls in between
    (524, b"error code: 524", Fault.BROKEN),
    (520, b"<html><title>example.com | 520: Web server is returning an unknown error</title></html>", Fault.BROKEN),
    (504, b"<html><head><title>504 Gateway Time-out</title></head></html>", Fault.BROKEN),
    (429, b"error code: 1015", Fault.BUSY),
    # broken
    (500, openai("boom"), Fault.BROKEN),
    (424, openai("failed dependency"), Fault.BROKEN),
    (
        503,
        b"<html><head><title>503</title></head><body><center><h1>503 Service Temporarily Unavailable</h1></center></body></html>",
        Fault.BROKEN,
    ),
    (502, b"", Fault.BROKEN),
    (307, b"", Fault.BROKEN),
]


@pytest.mark.parametrize(("status", "body", "fault"), SAID, ids=[f"{s} {str(b)[:60]}" for s, b, _ in SAID])
def test_what_servers_have_said_is_judged_by_what_it_speaks_of(status, body, fault):
    assert verdict(status, body).rule.fault is fault


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}),
        (503, {"error": {"message": "The model is loading", "type": "overloaded_error"}}),
        (503, {"error": "Model meta-llama/x is currently loading", "estimated_time": 20.0}),
        (429, {"error": {"message": "Model x is loading", "code": "overloaded"}}),
    ],
)
def test_a_model_that_is_being_loaded_is_told_so_whatever_the_type_of_its_error(status, body):
    assert verdict(status, body).code == "loading"


def test_a_503_that_says_when_to_return_is_busy_and_any_other_is_broken():
    assert verdict(503, b"", says_when=True).rule.fault is Fault.BUSY
    assert verdict(500, b"", says_when=True).rule.fault is Fault.BROKEN


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"detail": "Not Found"}),
        (405, {"detail": "Method Not Allowed"}),
        (405, b""),
        (404, b"404 page not found"),
        (404, b"<!DOCTYPE html><html><head><title>Error</title></head><body><pre>Cannot POST /v1/embeddings</pre></body></html>"),
        (404, openai("Invalid URL (POST /v1/embeddings)", type="invalid_request_error")),
        (501, b""),
        (200, {"error": "Unexpected endpoint or method. (POST /v1/embeddings)"}),
    ],
)
def test_a_path_that_is_not_there_is_told_from_a_model_that_is_not(status, body):
    assert verdict(status, body).rule.fault is Fault.PATH
    assert verdict(status, body, path_known=True).rule.fault is not Fault.PATH


@pytest.mark.parametrize("message", ["File not found", "File Not Found."])
def test_a_file_that_is_not_found_may_be_one_that_the_request_names_and_takes_no_path_away(message):
    assert verdict(404, {"error": message}, needs=("chat", "image_url")).rule.fault is Fault.MODEL
    said = {"error": {"code": 404, "message": message, "type": "not_found_error"}}
    assert verdict(404, said, needs=("chat",)).rule.fault is Fault.MODEL


TOO_LONG = [
    "request (18010 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "input (1501 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "The encoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens.",
    "This endpoint's maximum context length is 4096 tokens. However, you requested about 5000 tokens (5000 of text input).",
    "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100 `max_new_tokens`",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "The input token count exceeds the maximum number of tokens allowed (1048576).",
    "the input length exceeds the context length",
    "input length exceeds the context length",
]


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("message", TOO_LONG)
def test_a_prompt_that_is_too_long_is_the_requests_fault_wherever_it_is_told_so_to_the_client(message, status):
    assert overflow_in(message)
    found = verdict(status, openai(message))
    assert (found.rule.fault, found.code) == (Fault.REQUEST, "context_length_exceeded")


@pytest.mark.parametrize(
    ("need", "status", "message"),
    [
        ("vision", 500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
        ("vision", 400, "<path> is not a multimodal model"),
        ("vision", 400, "'claude-x' does not support image input."),
        ("image_url", 400, "invalid image source type: url. Only base64 images are supported."),
        ("image_url", 400, "'url' field must be a base64 encoded image."),
        ("documents", 400, "PDF input is not supported by this model"),
        ("tools", 500, "tools param requires --jinja flag"),
        ("tools", 400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        ("tools", 400, 'tool_choice="required" requires --tool-call-parser to be set'),
        ("tools", 400, 'tool_choice=function "hello" requires --tool-call-parser to be set'),
        ("tools", 400, "registry.ollama.ai/library/x:latest does not support tools"),
        ("embedding", 501, "This server does not support embeddings. Start it with `--embeddings`"),
        ("embedding", 400, '"tiny" does not support embeddings'),
        ("json_schema", 400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
    ],
)
def test_what_a_model_cannot_do_counts_only_where_the_request_needs_it(need, status, message):
    found = verdict(status, openai(message), needs=("chat", need))
    assert (found.rule.fault, found.code) == (Fault.NEED, f"no_{need}")
    assert verdict(status, openai(message), needs=("chat",)).rule.fault is not Fault.NEED
    assert verdict(403, openai(message), needs=("chat", need)).rule.fault is not Fault.NEED, "that is the key's"


@pytest.mark.parametrize(("letters", "fault"), [(1, Fault.MODEL), (100, Fault.MODEL), (101, Fault.BROKEN)])
def test_between_the_words_of_a_rule_a_name_has_room_and_a_story_has_not(letters, fault):
    table = FailureTable({"kind": (FailureRule(fault=Fault.MODEL, words=("the thing … is nowhere",)),)})
    said = f"The thing {'x' * letters} is nowhere"
    assert next(iter(table.judge("kind", Answer(status=599, message=said)))).rule.fault is fault


def test_words_count_only_at_the_beginning():
    assert verdict(400, openai("invalid prompt: insufficient balance in your sentence")).rule.fault is Fault.REQUEST
    assert verdict(500, openai("cannot say: image input is not supported"), needs=("vision",)).rule.fault is Fault.BROKEN
    assert verdict(400, openai("tool 'insufficient_quota' is unknown")).rule.fault is Fault.REQUEST


def test_a_gateway_says_of_its_own_account_and_of_a_providers():
    own = openai("Authentication Error, Invalid proxy server token passed", "401", "auth_error")
    theirs = openai("litellm.AuthenticationError: AuthenticationError: OpenAIException - Incorrect API key provided", "401")
    assert verdict(401, own, kind="litellm").rule.fault is Fault.ACCOUNT
    assert verdict(401, theirs, kind="litellm").rule.fault is Fault.PERMISSION
    assert verdict(401, theirs).rule.fault is Fault.PERMISSION, "whatever kind it is taken for"


def test_an_error_within_a_200_is_judged_by_its_words_and_type():
    def of(event):
        said = complaint_in_stream(b"data: " + json.dumps(event).encode() + b"\n\n")
        answer = Answer(status=said.status, message=said.message, codes=said.codes)
        return next(iter(TABLE.judge("openai-compatible", answer))).rule.fault

    assert of(openai("You exceeded your current quota", "insufficient_quota")) is Fault.ACCOUNT
    assert of(anthropic("overloaded_error", "Overloaded")) is Fault.BUSY
    assert of(openai("CUDA out of memory", 500)) is Fault.BROKEN
    assert of({"error": {"message": "bad schema", "type": "BadRequestError", "code": 400}}) is Fault.REQUEST
    assert of({"error": "it broke"}) is Fault.BROKEN


SCHEMA = {
    "type": "object",
    "properties": {"image": {"type": "string"}, "model": {"enum": ["tools", "image"]}},
    "required": ["model"],
}
HONEST = [
    {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "You are helpful. Do not invent models, keys or paths."},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}, {"type": "text", "text": "what is it?"}]},
        ],
        "tools": [{"type": "function", "function": {"name": "hello", "description": "Says hello.", "parameters": SCHEMA}}],
        "tool_choice": {"type": "function", "function": {"name": "hello"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        "reasoning_effort": "low",
        "stream": True,
    },
    {
        "model": "tiny",
        "max_tokens": 9,
        "system": [{"type": "text", "text": "You are helpful."}],
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}, {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}]},
        ],
        "tools": [{"name": "hello", "description": "Says hello.", "input_schema": SCHEMA}],
        "tool_choice": {"type": "tool", "name": "hello"},
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    },
    {"model": "tiny", "input": ["embed me", "and me"], "encoding_format": "base64"},
]  # fmt: skip


@pytest.mark.parametrize("request_", HONEST, ids=["openai", "anthropic", "embedding"])
def test_an_honest_request_takes_no_words_out_of_a_servers_mouth(request_):
    """The words of the APIs themselves, which are in every request, void no line of the table."""
    body = json.dumps(request_).encode()
    for rules in (WORDS, *KINDS.values()):
        for rule in rules:
            for words in rule.words:
                if not words:
                    continue
                said = openai(words.replace("…", "`tiny`"))
                status = (rule.status or (400,))[0]
                needs = (rule.code.removeprefix("no_"), "chat")
                assert verdict(status, said, needs=needs, request=body) == verdict(status, said, needs=needs), words


# ---------------------------------------------------------------- never by the client's words

PHRASES = sorted({words for rules in (WORDS, *KINDS.values()) for rule in rules for words in (*rule.codes, *rule.words) if words})
TEXTS = st.one_of(
    st.sampled_from(PHRASES),
    st.builds("{} {}".format, st.sampled_from(PHRASES), st.text(max_size=20)),
    st.builds("{}{}".format, st.text(max_size=8), st.sampled_from(PHRASES)),
    st.sampled_from(("balance of mine", "balance is too low", "found here")),
    st.text(min_size=1, max_size=40),
)
# where servers put what they were sent
ECHOES = st.sampled_from(
    [
        lambda text: openai(text),
        lambda text: openai(f"{text} is not valid"),
        lambda text: openai(f"{text}: {text}"),
        lambda text: openai(f"unknown tool '{text}'"),
        lambda text: openai("no", text),
        lambda text: openai("no", type=text),
        lambda text: openai(f"Error: {text}"),
        lambda text: openai(f"Insufficient {text}"),
        lambda text: openai(f"Your credit {text}"),
        lambda text: {"detail": f"Not {text}"},
        lambda text: {"error": text},
        lambda text: {"detail": text},
        lambda text: anthropic(text, text),
    ]
)
PLACES = st.sampled_from(
    [
        lambda text: {"model": "m", "messages": [{"role": "user", "content": text}]},
        lambda text: {"model": text, "messages": []},
        lambda text: {"model": "m", "tools": [{"type": "function", "function": {"name": text}}]},
        lambda text: {"model": "m", "input": [text], "metadata": {text: text}},
    ]
)
NEUTRAL = "zq"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a machine may be busy with other things
@given(TEXTS, ECHOES, PLACES, st.sampled_from([200, 400, 404, 429, 500, 503, None]), st.booleans())
def test_what_a_client_has_said_never_judges_a_backend(text, echo, place, status, ascii):
    """However a server repeats it, the answer means what it would without the client's words."""
    request = json.dumps(place(text), ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    needs = ("chat", "vision", "tools", "embedding", "json_schema")
    repeated = verdict(status, echo(text), needs=needs, request=request)
    without = verdict(status, echo(NEUTRAL), needs=needs)
    assert repeated.rule.fault is without.rule.fault, (text, repeated.words)


@pytest.mark.parametrize(
    "request_",
    [
        rb'{"x":"Insufficient \u0042alance"}',
        rb'{"x":"\u0049NSUFFICIENT\u0020balance please"}',
        b'{"x":"insufficient\\n balance"}',
        b'{"messages":[{"content":"what does Insufficient   Balance mean?"}]}',
        rb'{"x":"insufficient\fbalance"}',
        rb'{"x":"insufficient\t\r\f \u000bbalance"}',
        rb'{"x":"\\ insufficient\/balance insufficient\u2003balance"}',
        b'{"x":"insufficient\xc2\xa0balance"}',
        rb'{"arguments":"{\"x\": \"insufficient\\u0020balance\"}"}',
        b"?x=Insufficient%20B%61lance",
        b"?x=insufficient+balance",
        b'{"x":"insufficient&#32;b&#x61;lance"}',
        b'{"x":"insufficient&nbsp;balance"}',
        b'{"x":"insufficient' + rb"\u0020" * 9000 + b'balance"}',
    ],
)
def test_escapes_and_blanks_do_not_hide_words(request_):
    said = openai("Insufficient Balance")
    assert verdict(400, said, request=request_).rule.fault is Fault.REQUEST
    assert verdict(400, said, request=b'{"x":"other words"}').rule.fault is Fault.ACCOUNT


@pytest.mark.parametrize(
    "words",
    [
        b"insufficient balance",
        b"insufficient" + rb"\u0020" * 400 + b"balance",
        b"insufficient" + rb"\f" * 400 + b"balance",
        b"insufficient" + b" " * 70_000 + b"balance",
        rb"insufficient balance " + rb"\ud83d\ude00" * 9,
        "insufficient balance für €".encode(),
        rb"\\\\insufficient\u0020balance",
    ],
)
def test_words_are_found_wherever_the_request_is_cut(words):
    said, head = openai("insufficient balance"), b'{"x":"'
    for shift in (*range(40), *range(40, 2440, 199)):
        request = head + b"y" * (WINDOW - len(head) - shift - 1) + b" " + words + b'"}'
        assert verdict(400, said, request=request).rule.fault is Fault.REQUEST, shift


def test_a_form_feed_in_a_sentence_is_the_clients_who_wrote_it():
    text = "you\fexceeded your current quota"
    for ascii in (True, False):
        request = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=ascii).encode()
        assert verdict(400, openai(f"{text} is no role"), request=request).rule.fault is Fault.REQUEST
    assert verdict(400, openai(text), request=b"{}").rule.fault is Fault.ACCOUNT


@pytest.mark.parametrize(
    ("message", "text", "client_s"),
    [
        ("Insufficient Balance", "balance", False),
        ("Insufficient Balance of mine", "Balance of mine", True),
        ("Your credit balance is too low to access", "low", False),  # single words of an API are in many requests
        ("Your credit balance is too low to access", "balance", False),
        ("Your credit balance is too low to access", "is too low to", True),
        ("<path> is not a multimodal model", "model", False),
    ],
)
def test_a_value_of_the_request_that_covers_a_part_of_the_words(message, text, client_s):
    request = json.dumps({"model": "m", "effort": text}).encode()  # every request has a key of this name
    found = verdict(400, openai(message), request=request, needs=("vision",))
    assert (found.rule.fault is Fault.REQUEST) is client_s


def test_words_that_are_the_whole_message_count_unless_they_are_a_value_of_the_request():
    """A prompt of some length has the words of a missing path somewhere."""
    prompt = json.dumps({"messages": [{"content": "it says not found, why?"}]}).encode()
    assert verdict(404, {"detail": "Not Found"}, request=prompt).rule.fault is Fault.PATH
    assert verdict(404, {"detail": "Not Found"}, request=b'{"model": "Not Found"}').rule.fault is Fault.MODEL


def test_a_request_that_is_too_large_to_look_through_is_judged_by_the_status():
    said = openai("Insufficient Balance")
    assert verdict(400, said, request=b"x" * (MOST_BYTES + 1)).rule.fault is Fault.REQUEST
    assert verdict(402, said, request=b"x" * (MOST_BYTES + 1)).rule.fault is Fault.ACCOUNT


async def test_looking_through_a_large_request_lets_others_have_their_turn():
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(other())
    found = next(iter(TABLE.judge("openai", Answer(status=400, message="Insufficient Balance"))))
    assert not await echoed(found.words, (b'{"a":"b"}' * 100_000,))
    task.cancel()
    assert turns > 10


# ---------------------------------------------------------------- the table itself


def test_every_fault_has_its_verdict_and_every_status_its_line():
    assert set(VERDICTS) == set(Fault)
    for status in range(300, 600):
        assert verdict(status, b"?").rule.fault is not None
    assert {400, 422} <= REJECTED_BY_STATUS
    assert not {401, 402, 403, 404, 408, 410, 424, 429, 498} & REJECTED_BY_STATUS


def test_words_are_written_as_they_are_compared():
    for rules in (WORDS, STATUSES, *KINDS.values()):
        for rule in rules:
            for words in (*rule.codes, *rule.words):
                assert words == " ".join(words.lower().split(" ")), words
            assert rule.code.isidentifier() or not rule.code
            assert not rule.code.startswith("no_") or rule.fault is Fault.NEED


# ---------------------------------------------------------------- when to come back

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "value", "seconds"),
    [
        ({"retry-after": "7"}, None, 7),
        ({"retry-after": "0"}, None, 0.25),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, None, 30),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, None, 0.25),
        ({"retry-after": "1e9"}, None, 3600),
        ({"retry-after": "inf"}, None, 3600),
        ({"retry-after": "9" * 500}, None, 3600),
        ({"retry-after": "-5"}, None, None),
        ({"retry-after": "nan"}, None, None),
        ({"retry-after": "soon"}, None, None),
        ({"retry-after-ms": "1500", "retry-after": "2"}, None, 1.5),
        ({"x-ratelimit-reset-requests": "1m2s", "x-ratelimit-remaining-requests": "0"}, None, 62),
        ({"x-ratelimit-reset-tokens": "350ms", "x-ratelimit-remaining-tokens": "0"}, None, 0.35),
        ({"x-ratelimit-reset-requests": "1m2s", "x-ratelimit-remaining-requests": "5"}, None, None),
        ({"x-ratelimit-reset": str(int((NOW + 40) * 1000)), "x-ratelimit-remaining": "0"}, None, 40),
        ({"anthropic-ratelimit-requests-reset": "2027-01-15T08:00:20Z", "anthropic-ratelimit-requests-remaining": "0"}, None, 20),
        ({}, {"loading": {"eta_seconds": 12}}, 12),
        ({}, {"error": "Model x is currently loading", "estimated_time": 20.0}, 20),
        ({}, {"error": {"details": [{"@type": "RetryInfo", "retryDelay": "34s"}]}}, 34),
        ({}, {"error": {"message": "try again in 20s"}}, None),
        ({}, ["x"], None),
    ],
)
def test_how_long_a_server_asks_to_be_left_alone(headers, value, seconds):
    assert asked_for(headers.items(), NOW, value) == (None if seconds is None else pytest.approx(seconds))
