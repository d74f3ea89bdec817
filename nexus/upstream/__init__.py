"""One HTTP/1.1 exchange with a backend: streamed, pooled, with back-pressure.  The only home of httptools and of raw sockets.

Nothing here knows of models, dialects or routing, and nothing retries: whoever asks decides what a failure means.
"""

from __future__ import annotations

from nexus.upstream.pool import Pool

__all__ = ["Pool"]
