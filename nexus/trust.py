"""Which privacy zone a backend gets where the operator has not written one.  Addresses and facts in, a zone and its evidence out."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence

import attrs

from nexus.discovery import LOOPBACK, interfaces, is_own, is_private, parsed
from nexus.model import Zone

# Carrier-grade NAT (RFC 6598).  Tailscale gives its machines addresses of this range, but so do providers to their customers.
_SHARED = ipaddress.ip_network("100.64.0.0/10")


class Trusted:
    """The operator's list of hosts, addresses and networks (`[discovery] trusted`)."""

    def __init__(self, entries: Iterable[str]) -> None:
        networks = {entry: _network(entry) for entry in entries}
        self._networks = tuple(network for network in networks.values() if network is not None)
        self._hosts = frozenset(_plain(entry) for entry, network in networks.items() if network is None)

    def host(self, host: str) -> bool:
        """Whether the list holds this name, however it is spelt."""
        return _plain(host) in self._hosts

    def address(self, address: str) -> bool:
        """Whether the list holds this address, or a network that it is in."""
        found = parsed(address)
        return found is not None and any(found.version == network.version and found in network for network in self._networks)


@attrs.define
class Proof:
    """What makes one backend `restricted`, asked of the addresses that its name has at the moment.

    It needs all of: a kind that runs models itself, somebody who vouches for the server (`vouched` says who; None for what was
    found on the network), and addresses each of which is this machine's, private, or trusted by the operator.  A host that the
    operator trusts by name is trusted at the addresses that it had when it was first asked for: another public one is not.
    """

    host: str
    kind: str
    runs_models: bool
    vouched: str | None
    trusted: Trusted
    cloud: bool = False
    _pinned: frozenset[str] = attrs.field(factory=frozenset, init=False)

    def zone(self, addresses: Sequence[str]) -> tuple[Zone, str]:
        """The zone at these addresses, none where the name does not resolve, and why, for people."""
        if self.cloud:
            return Zone.OPEN, f"a server of type {self.kind} is somebody else's, not on a machine of yours"
        stranger = next((address for address in addresses if self._proof(address) is None), None)
        if not self.runs_models and stranger is not None and not self.trusted.host(self.host):
            return Zone.OPEN, f"{stranger} is not a private address"
        if not self.runs_models:
            return Zone.OPEN, (
                f'a server of type {self.kind} can forward requests elsewhere; write zone = "restricted" if this one does not'
            )
        if not addresses:
            return Zone.OPEN, "its address could not be resolved yet"
        if self.trusted.host(self.host) and not self._pinned:
            self._pinned = frozenset(addresses)
        proofs = {address: self._proof(address) for address in addresses}
        stranger = next((address for address, proof in proofs.items() if proof is None), None)
        if stranger is not None:
            return Zone.OPEN, f"{stranger} is not a private address{_hint(stranger)}"
        vouched = self.vouched or self._vouched(addresses)
        if vouched is None:
            return Zone.OPEN, f"{addresses[0]} was found on the network and is not in [discovery] trusted"
        shown = next(iter(proofs))
        return Zone.RESTRICTED, f"{proofs[shown]}, {vouched}, and {self.kind} runs its models itself"

    def _proof(self, address: str) -> str | None:
        if is_own(address):
            return f"{LOOPBACK} is private"
        if is_private(address):
            return f"{address} is private"
        if self.trusted.address(address) or address in self._pinned:
            return f"{address} is in [discovery] trusted"
        return None

    def _vouched(self, addresses: Sequence[str]) -> str | None:
        if self.trusted.host(self.host) or all(map(self.trusted.address, addresses)):
            return "the configuration trusts it"
        return None


class Watched:
    """The guard before a server whose zone was proven by its address.  `moved` hears of the zone, and why, each time it is judged."""

    def __init__(self, proof: Proof, zone: Zone, moved: Callable[[Zone, str], None]) -> None:
        self._proof = proof
        self._moved = moved
        self.private = zone is Zone.RESTRICTED

    def judge(self, hosts: Sequence[str]) -> None:
        zone, evidence = self._proof.zone(hosts)
        self.private = zone is Zone.RESTRICTED
        self._moved(zone, evidence)


def _hint(address: str) -> str:
    found = parsed(address)
    if found is None or found not in _SHARED:
        return ""
    ours = next((name for name in interfaces() if name.startswith("tailscale")), None)
    whose = f"this machine is in a Tailscale network ({ours})" if ours else "providers share this range, and Tailscale uses it"
    return f': {whose}; if that is a machine of yours, write trusted = ["{address}"], or ["{_SHARED}"] for all of them, under [discovery]'


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return None


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()
