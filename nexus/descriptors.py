"""How many files and connections this process may have open, and whether an error says that it was one too many."""

from __future__ import annotations

import errno

MOST_ASKED_FOR = 1 << 17  # more than this many connections no single process serves
UNKNOWN_LIMIT = 4096  # where the system does not say
LEAST_RESERVED, MOST_RESERVED = 24, 64  # for state, log, probes, names and what else is no connection of a client or a backend
# no descriptor (of ours, of the system's), no memory for one, no port to connect from
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


def raise_limit() -> int:
    """Raise the soft limit of open files of this process as far as it may be; what it is then."""
    try:
        import resource
    except ImportError:
        return UNKNOWN_LIMIT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_ASKED_FOR if hard == resource.RLIM_INFINITY else min(hard, MOST_ASKED_FOR)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return min(soft, MOST_ASKED_FOR) if soft != resource.RLIM_INFINITY else MOST_ASKED_FOR
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # some systems have a lower bound that they do not tell
        return soft
    return wanted


def most_clients(limit: int) -> int:
    """How many connections with clients there can be at this limit, where each may need one with a backend."""
    reserved = min(max(limit // 4, LEAST_RESERVED), MOST_RESERVED)
    return max((limit - reserved) // 2, 1)


def is_shortage(error: BaseException | None) -> bool:
    """Whether it was this machine that had nothing left to connect with: the other side was never asked."""
    return isinstance(error, OSError) and error.errno in SHORTAGES
