"""The stage keeps what every stage promises, whether it is enabled or not."""

from __future__ import annotations

from nexus_prefix import nexus_stages
from nexus_prefix.stage import PrefixOptions

from nexus.testing.contracts import StageContract

(KIND,) = nexus_stages()


class TestPrefix(StageContract):
    kind = KIND


class TestDisabled(StageContract):
    kind = KIND
    options = PrefixOptions(enabled=False)
