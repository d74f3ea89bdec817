"""HTTP/1.1 connections with clients, for the requests that a model answers and the pages that every client asks for, in raw asyncio.

Only plain requests are taken: a `POST` with a length or a `GET` without a body, for which `admit` knows who answers.  A connection on
which anything else comes is handed to aiohttp, with every byte.  What a request means is not known here.
"""

from nexus.downstream.listener import Listener

__all__ = ["Listener"]
