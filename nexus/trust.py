"""Which privacy zone a backend gets where the operator has not written one.  Pure: addresses and facts in, a zone and its evidence out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from nexus.discovery import is_private
from nexus.model import Zone


def zone_of(*, written: Zone | None, address: str | None, vouched: str | None, kind: str, runs_models: bool) -> tuple[Zone, str]:
    """The zone and, for people, why.  `restricted` needs all of: a private address, somebody who vouches for it, a kind that
    runs models itself.  `address` None is an address that could not be resolved; `vouched` says who vouches, None nobody.
    """
    if written is not None:
        return written, "the configuration says so"
    if not runs_models:
        return Zone.OPEN, f'a server of type {kind} can forward requests elsewhere; write zone = "restricted" if this one does not'
    if address is None:
        return Zone.OPEN, "its address could not be resolved yet"
    if not is_private(address):
        return Zone.OPEN, f"{address} is not a private address"
    if vouched is None:
        return Zone.OPEN, f"{address} was found on the network and is not in [discovery] trusted"
    return Zone.RESTRICTED, f"{address} is private, {vouched}, and {kind} runs its models itself"


def trusts(trusted: Iterable[str], host: str, address: str) -> bool:
    """Whether the operator's list of hosts, addresses and networks holds this host or address."""
    return any(entry.lower() == host.lower() or _in_network(address, entry) for entry in trusted)


def _in_network(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
