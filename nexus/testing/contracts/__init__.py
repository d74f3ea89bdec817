"""Contracts: test classes that a plugin author subclasses, one per kind of component, to have every promise checked.

Each file holds one kind.  pytest may be imported here and in the fixtures, nowhere else in the kit.
"""

from nexus.testing.contracts.backend import BackendContract
from nexus.testing.contracts.conformance import ConformanceContract
from nexus.testing.contracts.dialect import DialectContract, Golden
from nexus.testing.contracts.routes import RoutesContract
from nexus.testing.contracts.stage import StageContract
from nexus.testing.contracts.witness import ObserverContract, SourceContract

__all__ = [
    "BackendContract",
    "ConformanceContract",
    "DialectContract",
    "Golden",
    "ObserverContract",
    "RoutesContract",
    "SourceContract",
    "StageContract",
]
