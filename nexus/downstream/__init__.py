"""HTTP/1.1 connections with clients, for the requests that a model answers, in raw asyncio.

Only plain requests are taken: a `POST` to a path of a dialect, with a length, that the door lets in without a remark.  A connection on
which anything else comes is handed to aiohttp, with every byte.  What a request means is not known here.
"""

from nexus.downstream.listener import Listener

__all__ = ["Listener"]
