"""Where a name leads, judged before it is connected to: what is private goes to no address that has not been proven.

What makes an address a proven one is for the guards to say.  Nothing is resolved or connected to here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from nexus.errors import BackendError
from nexus.upstream.request import Address


class Guard(Protocol):
    """Judges the addresses that one server's name has."""

    @property
    def private(self) -> bool:
        """Whether what is private may go to those that were judged last."""
        ...

    def judge(self, hosts: Sequence[str]) -> None:
        """The name has these addresses now, all of them."""
        ...


class Guarded:
    """A guard at its place.  Tell it of addresses that were learnt otherwise than by connecting; `close` takes it away."""

    def __init__(self, guards: Guards, address: Address, guard: Guard) -> None:
        self._guards = guards
        self._address = address
        self._guard = guard

    def resolved(self, hosts: Sequence[str]) -> None:
        """The name has these addresses now."""
        self._guards.judge(self._address, hosts)

    def close(self) -> None:
        self._guards.remove(self._address, self._guard)


class Dialing:
    """One connection that is being made.  Called with the addresses that the name has, it raises BackendError("address_moved") where
    they are not what they should be.  `holds` is whether what was judged then is still so."""

    def __init__(self, guards: Guards, address: Address, private: bool) -> None:
        self._guards = guards
        self._address = address
        self._private = private
        self._was = guards.private(address)

    @property
    def holds(self) -> bool:
        return self._guards.private(self._address) == self._was

    def __call__(self, hosts: Sequence[str]) -> None:
        self._guards.judge(self._address, hosts)
        self._was = self._guards.private(self._address)
        if self._private and not self._was:
            raise BackendError("address_moved", f"{self._address} is at {', '.join(hosts)} now, where nothing private may go")


class Guards:
    """All guards, by whom they stand before.  `moved` hears of an address where private things may go no longer, or again."""

    def __init__(self, moved: Callable[[Address], None]) -> None:
        self._moved = moved
        self._guards: dict[Address, list[Guard]] = {}

    def add(self, address: Address, guard: Guard) -> Guarded:
        self._guards.setdefault(address, []).append(guard)
        return Guarded(self, address, guard)

    def remove(self, address: Address, guard: Guard) -> None:
        left = [other for other in self._guards.pop(address, ()) if other is not guard]
        if left:
            self._guards[address] = left

    def private(self, address: Address) -> bool:
        """Whether what is private may go there: nobody stands before it, or nobody objects."""
        guards = self._guards.get(address)
        return guards is None or all(guard.private for guard in guards)

    def judge(self, address: Address, hosts: Sequence[str]) -> None:
        for guard in self._guards.get(address, ()):
            before = guard.private
            guard.judge(hosts)
            if guard.private is not before:
                self._moved(address)

    def dialing(self, address: Address, private: bool) -> Dialing:
        return Dialing(self, address, private)
