"""What aiohttp reads from the system while it is imported is read when somebody needs it.

It makes two TLS contexts for its client, each with all root certificates: two times 144 take 2.1 MiB and a twentieth of a second.
Backends are asked over connections that have a context of their own, so most gateways need neither.  The table of MIME types, 0.4 MiB, is
for those who send files.
"""

from __future__ import annotations

import contextlib
import mimetypes
import ssl
from collections.abc import Iterator
from typing import Any


class Unread(ssl.SSLContext):
    """A context that reads the root certificates before whatever asks for them, and is a plain one from then on."""

    def read(self) -> ssl.SSLContext:
        super().set_default_verify_paths()
        self.__class__ = ssl.SSLContext  # type: ignore[assignment]  # it was one before
        return self

    def wrap_socket(self, *args: Any, **more: Any) -> ssl.SSLSocket:
        return self.read().wrap_socket(*args, **more)

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        return self.read().wrap_bio(*args, **more)

    def get_ca_certs(self, *args: Any, **more: Any) -> Any:
        return self.read().get_ca_certs(*args, **more)

    def cert_store_stats(self) -> dict[str, int]:
        return self.read().cert_store_stats()


@contextlib.contextmanager
def lazy_loading() -> Iterator[None]:
    """Contexts that are made meanwhile read the root certificates when they are first used; so is the table of MIME types."""

    def later(context: ssl.SSLContext) -> None:
        context.__class__ = Unread

    usual: Any = ssl.SSLContext
    usual.set_default_verify_paths = later
    known, mimetypes.inited = mimetypes.inited, True  # as far as whoever makes a table of their own can see
    try:
        yield
    finally:
        mimetypes.inited = known
        del usual.set_default_verify_paths  # the method of its base class is there again
