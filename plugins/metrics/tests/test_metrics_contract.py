"""The metrics keep what observers and routes promise."""

import nexus_metrics

from nexus.testing.contracts import ObserverContract, RoutesContract


class TestCounting(ObserverContract):
    (kind,) = nexus_metrics.nexus_observers()


class TestScraping(RoutesContract):
    (kind,) = nexus_metrics.nexus_routes()
