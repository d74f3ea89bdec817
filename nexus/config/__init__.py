"""TOML text, environment and flags become one frozen Config, or every mistake at once.  What plugins exist is the catalog's to say.

    config, catalog = load(Path("nexus.toml"), env=os.environ)

`tables` has the classes, `loading` the order of events, `strict` the only use of cattrs, `source` the only use of tomlkit.
"""

from nexus.config.components import active_stages
from nexus.config.loading import Draft, finish, load, read
from nexus.config.overlay import OTHER_VARIABLES
from nexus.config.sample import default_text
from nexus.config.tables import (
    CAPABILITIES,
    BackendConfig,
    Config,
    DiscoveryConfig,
    HealthConfig,
    KeyConfig,
    ModelConfig,
    PolicyConfig,
    QueueConfig,
    RoutingConfig,
    ServerConfig,
    TranslationConfig,
    UpstreamConfig,
)

__all__ = [
    "CAPABILITIES",
    "OTHER_VARIABLES",
    "BackendConfig",
    "Config",
    "DiscoveryConfig",
    "Draft",
    "HealthConfig",
    "KeyConfig",
    "ModelConfig",
    "PolicyConfig",
    "QueueConfig",
    "RoutingConfig",
    "ServerConfig",
    "TranslationConfig",
    "UpstreamConfig",
    "active_stages",
    "default_text",
    "finish",
    "load",
    "read",
]
