"""The frozen configuration: one class per table of `nexus.toml`, its keys, defaults and ranges.  Nothing is read or parsed here.

The classes may be made by hand (a test, an app that embeds Nexus); `nexus.config.load` makes them from a file.
"""

# ruff: noqa: RUF009 (`setting` declares an attribute, as attrs.field does; it makes no default that instances share)
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from nexus.api import Secret
from nexus.config.fields import (
    MISSING,
    above,
    at_least,
    between,
    distinct,
    each,
    filled,
    host_name,
    host_or_network,
    key_hash,
    module_name,
    one_of,
    origin,
    plain_name,
    setting,
    variable_name,
    web_address,
)
from nexus.config.mistakes import wrong
from nexus.model import (
    CHAT,
    COMPLETION,
    EMBEDDING,
    EMPTY,
    IMAGE_URL,
    JSON_SCHEMA,
    THINKING,
    TOOLS,
    VISION,
    Lane,
    Price,
    UserIds,
    Zone,
)

CAPABILITIES = (CHAT, COMPLETION, EMBEDDING, VISION, IMAGE_URL, TOOLS, JSON_SCHEMA, THINKING)
STAGES = ("privacy", "budget", "tier", "capability", "balance")
MIB = 1024 * 1024
ELSE_UPSTREAM = "default: `[upstream]`'s"


@attrs.frozen(kw_only=True)
class ServerConfig:
    """`[server]`: where Nexus listens, and what it takes."""

    host: str = setting("127.0.0.1", "address to listen on; beyond loopback it needs `[[keys]]` or `insecure`", filled, host_name)
    port: int = setting(6398, "port to listen on; 0 takes a free one", between(0, 65535))
    max_body_bytes: int = setting(64 * MIB, "largest request body; 413 above", at_least(1))
    max_inflight_body_bytes: int = setting(512 * MIB, "request bodies held at one time, in sum", at_least(1))
    shutdown_grace_seconds: float = setting(30.0, "how long requests may still run after SIGTERM", at_least(0))
    stream_keepalive_seconds: float = setting(10.0, "when a stream without a first event begins to be kept alive", above(0))
    max_connections: int | None = setting(
        None, "connections with clients at one time; default: half of what the limit of open files leaves", at_least(1)
    )
    send_timeout_seconds: float = setting(60.0, "how long a client may take nothing of its answer until it is cut off", above(0))
    origins: tuple[str, ...] = setting((), "browsers' origins that may call, such as `https://chat.example.org`", each(origin))
    hosts: tuple[str, ...] = setting(
        (), "public names in `Host` that are accepted where no key is needed; see [errors](errors.md)", each(host_name)
    )
    insecure: bool = setting(False, "listen beyond loopback without keys: anybody who reaches the port may spend and read")
    state_dir: Path | None = setting(
        None, "where state is kept; default: the platform's state directory, and none in an application that embeds Nexus"
    )

    def __attrs_post_init__(self) -> None:
        if self.max_inflight_body_bytes < self.max_body_bytes:
            raise wrong(f"must be at least max_body_bytes ({self.max_body_bytes})", place="max_inflight_body_bytes")


@attrs.frozen(kw_only=True)
class UpstreamConfig:
    """`[upstream]`: how long a backend may take.  Seconds."""

    connect_timeout_seconds: float = setting(5.0, "until a connection stands", above(0))
    first_byte_timeout_seconds: float = setting(300.0, "until a stream's first byte, all attempts together", above(0))
    answer_timeout_seconds: float = setting(1800.0, "until an answer that is not streamed, all attempts together", above(0))
    idle_timeout_seconds: float = setting(300.0, "between two pieces of an answer; a stream has no total limit", above(0))


@attrs.frozen(kw_only=True)
class HealthConfig:
    """`[health]`: probes, and what live traffic says."""

    interval_seconds: float = setting(30.0, "between two probes of a backend", above(0))
    timeout_seconds: float = setting(5.0, "for one probe", above(0))
    failure_threshold: int = setting(3, "failed probes in a row until a healthy backend is unhealthy", at_least(1))
    recovery_threshold: int = setting(2, "good probes in a row until it is healthy again", at_least(1))
    timeout_threshold: int = setting(
        3, "requests in a row without an answer in time that eject a backend or its model", at_least(1)
    )
    min_samples: int = setting(10, "exchanges in the window before live failures count", at_least(1))
    failure_ratio: float = setting(
        0.5, "share of failed exchanges that ejects a backend or its model, above 0 and up to 1", above(0), between(0, 1)
    )
    window_seconds: float = setting(30.0, "how far back live exchanges count", above(0))
    eject_seconds: float = setting(15.0, "how long what is ejected rests before one request tries it again", above(0))


@attrs.frozen(kw_only=True)
class DiscoveryConfig:
    """`[discovery]`: how servers are found that nobody configured."""

    sources: tuple[str, ...] | None = setting(
        None, "sources to listen to; default: all installed; `[]` turns discovery off", distinct
    )
    trusted: tuple[str, ...] = setting(
        (),
        "hosts, addresses and networks that are yours: a server there may be `restricted`, found or written, at a public address too",
        each(host_or_network),
    )


@attrs.frozen(kw_only=True)
class RoutingConfig:
    """`[routing]`: the pipeline, and names for names."""

    stages: tuple[str, ...] | None = setting(
        None, f"stages in order; default: {', '.join(STAGES)}, then the installed ones that are on by default"
    )
    max_attempts: int = setting(3, "pairs tried for one request", at_least(1))
    aliases: Mapping[str, tuple[str, ...]] = setting(
        EMPTY, "name → the name meant, or a list of ids held equal; chains up to 3", freeze=True
    )
    fallbacks: Mapping[str, tuple[str, ...]] = setting(
        EMPTY, "name → what to try next, in order; a fallback's own chain is not followed", freeze=True
    )


@attrs.frozen(kw_only=True)
class PolicyConfig:
    """`[[policies]]`: a rule for every request whose model's name, or any name on the way to it, matches."""

    models: tuple[str, ...] = setting(MISSING, "globs of model names", filled, each(filled))
    zone: Zone | None = setting(None, "`restricted`: only backends of that zone")
    min_tier: int | None = setting(None, "lowest tier, 1 to 5", between(1, 5))

    def __attrs_post_init__(self) -> None:
        if self.zone is None and self.min_tier is None:
            raise wrong("asks for nothing: give zone or min_tier")


@attrs.frozen(kw_only=True)
class TranslationConfig:
    """`[translation]`: requests to servers that speak another API than the client."""

    user_ids: UserIds = setting(
        UserIds.HASH, "what becomes of a client's id of an end user: `hash` (keyed), `drop`, or `pass` where the server takes it"
    )


@attrs.frozen(kw_only=True)
class QueueConfig:
    """`[queue]`: requests that wait for a free pair."""

    max_requests: int = setting(100, "requests that may wait; 0 turns waiting off", at_least(0))
    max_bytes: int = setting(256 * MIB, "bodies of waiting requests, in sum, and 4 KiB for each", at_least(0))
    max_wait_seconds: float = setting(30.0, "longest wait", at_least(0))
    overflow_after_seconds: float = setting(0.0, "how long to wait for home before a cloud pair or a fallback", at_least(0))


def _price(value: Price) -> None:
    for key in ("input", "output", "cached"):
        figure = getattr(value, key)
        if figure is not None and figure < 0:
            raise wrong(f"must be at least 0, not {figure}", place=key)


@attrs.frozen(kw_only=True)
class ModelConfig:
    """`[[backends.models]]`: what the server does not say of a model, or says wrongly."""

    id: str = setting(MISSING, "the id the server knows", filled)
    name: str | None = setting(None, "public name; default: the id", filled)
    capabilities: tuple[str, ...] | None = setting(
        None, f"all it can do, of {', '.join(CAPABILITIES)}; default: what the server says", each(one_of(*CAPABILITIES)), distinct
    )
    context: int | None = setting(None, "tokens of context it serves", at_least(1))
    max_output_tokens: int | None = setting(None, "most tokens it writes in one answer", at_least(1))
    max_concurrent: int | None = setting(None, "requests for it at one time; the backend's holds besides", at_least(1))
    tier: int | None = setting(None, "1 to 5; default: the backend's", between(1, 5))
    first_byte_timeout_seconds: float | None = setting(None, "as at the backend, for this model; default: the backend's", above(0))
    answer_timeout_seconds: float | None = setting(None, "as at the backend, for this model; default: the backend's", above(0))
    idle_timeout_seconds: float | None = setting(None, "as at the backend, for this model; default: the backend's", above(0))
    zone: Zone | None = setting(None, "`restricted` or `open`; default: the backend's")
    price: Price | None = setting(None, "US dollars per million tokens: `{input = 2.5, output = 10, cached = 1.25}`", _price)


@attrs.frozen(kw_only=True)
class BackendConfig:
    """`[[backends]]`: one server.  `options` is the kind's options class, None for `auto` (the kind is not known yet)."""

    name: str = setting(MISSING, "what it is called in headers, logs and metrics", plain_name)
    type: str = setting("auto", "an installed backend type; `auto` recognises the server by its fingerprint", filled)
    url: str | None = setting(None, "where it is, with or without the API's own path; default: the type's own, if any", web_address)
    zone: Zone | None = setting(None, "`restricted` or `open`; default: restricted only where locality is proven")
    tier: int | None = setting(None, "1 to 5, how capable; default: 1", between(1, 5))
    priority: int = setting(50, "lower is preferred", at_least(0))
    max_concurrent: int | None = setting(
        None, "requests at one time, for all its models together; default: what the server or its type says", at_least(1)
    )
    connect_timeout_seconds: float | None = setting(None, f"until a connection stands; {ELSE_UPSTREAM}", above(0))
    first_byte_timeout_seconds: float | None = setting(
        None, f"until a stream's first byte, in each attempt; {ELSE_UPSTREAM}", above(0)
    )
    answer_timeout_seconds: float | None = setting(
        None, f"until an answer that is not streamed, in each attempt; {ELSE_UPSTREAM}", above(0)
    )
    idle_timeout_seconds: float | None = setting(None, f"between two pieces of an answer; {ELSE_UPSTREAM}", above(0))
    models: tuple[str, ...] | None = setting(
        None, "globs of the models to use; default: all. Tables: see `[[backends.models]]`", each(filled)
    )
    api_key_env: str | None = setting(None, "name of the environment variable that holds the server's key", variable_name)
    key: Secret | None = setting(None, "the key, from the environment", toml=False)
    without_key: str = setting("", "why there is no key although one is named", toml=False)
    overrides: tuple[ModelConfig, ...] = setting((), "the tables of `models`", toml=False)
    options: object = setting(None, "the type's own keys", toml=False)


@attrs.frozen(kw_only=True)
class KeyConfig:
    """`[[keys]]`: a client's key to Nexus.  Only its hash is written."""

    name: str = setting(MISSING, "whose key it is", plain_name)
    hash: str = setting(MISSING, "as `nexus keys new` prints it", key_hash)
    models: tuple[str, ...] = setting(("*",), "globs of the models it may ask for", each(filled))
    priority: Lane = setting(Lane.NORMAL, "the highest it may ask for: `high`, `normal` or `low`")
    admin: bool = setting(False, "whether it opens `/nexus/*`")

    def __attrs_post_init__(self) -> None:
        if not self.models and not self.admin:
            raise wrong(
                "an empty list lets the key use no model: leave it out for all (only a key with admin = true is of use without)",
                place="models",
            )


@attrs.frozen(kw_only=True)
class Config:
    """All of `nexus.toml`.  `options` holds the options of every active component by its name; `path` is the file;
    `warnings` are sentences about what is allowed and probably not meant."""

    plugins: tuple[str, ...] = setting((), "local modules to load, found beside the file", each(module_name), distinct)
    disabled: tuple[str, ...] = setting((), "installed plugin packages not to use", each(filled), distinct)
    server: ServerConfig = ServerConfig()
    upstream: UpstreamConfig = UpstreamConfig()
    health: HealthConfig = HealthConfig()
    discovery: DiscoveryConfig = DiscoveryConfig()
    routing: RoutingConfig = RoutingConfig()
    policies: tuple[PolicyConfig, ...] = ()
    queue: QueueConfig = QueueConfig()
    translation: TranslationConfig = TranslationConfig()
    backends: tuple[BackendConfig, ...] = ()
    keys: tuple[KeyConfig, ...] = ()
    options: Mapping[str, object] = setting(EMPTY, "the options of active components", toml=False, freeze=True)
    path: Path | None = setting(None, "the file", toml=False)
    warnings: tuple[str, ...] = setting((), "what is allowed and probably not meant", toml=False)


# What a file may hold beside components' tables, by how it is written.
WORDS = ("plugins", "disabled")
FIXED: Mapping[str, type] = {
    "server": ServerConfig,
    "upstream": UpstreamConfig,
    "health": HealthConfig,
    "discovery": DiscoveryConfig,
    "routing": RoutingConfig,
    "queue": QueueConfig,
    "translation": TranslationConfig,
}
ARRAYS: Mapping[str, type] = {"policies": PolicyConfig, "backends": BackendConfig, "keys": KeyConfig}
OWN = (*WORDS, *FIXED, *ARRAYS)
