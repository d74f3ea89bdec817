"""What somebody has to do on another machine, or to write, before a server there can be used.  Pure: facts in, a sentence out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from nexus.api import BackendKind
from nexus.discovery import is_own, parsed


def refused(kinds: Mapping[str, BackendKind], kind: str | None, url: str, addresses: Collection[str]) -> str:
    """What to do where a server refuses connections; "" where nothing can be said: on this machine it simply does not run, in the internet
    it may be anybody's, and some kinds listen for everybody.  `kind` None is one that is not known yet: then its port tells whose advice may help."""
    if not addresses or any(is_own(address) or _is_public(address) for address in addresses):
        return ""
    known = kinds.get(kind or "")
    advice = [known.refused] if known is not None else _usual(kinds.values(), urlsplit(url).port or 0)
    return "; or ".join(dict.fromkeys(filter(None, advice)))


def _is_public(address: str) -> bool:
    found = parsed(address)
    return found is not None and found.is_global


def _usual(kinds: Iterable[BackendKind], port: int) -> list[str]:
    """What the kinds advise that are usually there; of one that may be on many ports only where there is no other."""
    there = sorted((len(print_.ports), kind.refused) for kind in kinds for print_ in kind.fingerprints if port in print_.ports)
    return [advice for ports, advice in there if ports == there[0][0]]


def keyed(url: str) -> str:
    """What to write for a server that wants a key before it says what it is: a sentence, then the lines, each by itself."""
    return (
        f"what listens at {url} wants a key (it answers 401); if it is a model server, put the key into a variable, "
        f'and these lines into nexus.toml:\n[[backends]]\nname = "mine"\nurl = "{url}"\napi_key_env = "MINE_KEY"'
    )
