"""What is over leaves nothing for the garbage collector: memory goes back at once, and nobody waits while all that lives is looked through."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import re

import pytest

from nexus.runtime.loop import new_loop
from nexus.testing import Respond, Stream, sse

from .wire import WAYS, open_house, tiny
from .wire_client import CHAT, GOOD, STREAMED

TIMES = 10
OTHER_END = {"nexus.runtime.loop.Transport": TIMES}  # the upstream of the test, whose streams are asyncio's
OURS = re.compile(r"nexus\.(?!testing)|.*Transport$|builtins\.(frame|traceback)")


@contextlib.contextmanager
def only_collected():
    """How many objects of each of Nexus' types, and how many frames, were reachable from nothing but each other at its end."""
    found = collections.Counter()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        kinds = [f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage]
        found.update(kind for kind in kinds if OURS.match(kind))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()


async def chat(house, up):
    assert (await house.post(GOOD)).status == 200


async def stream(house, up):
    assert (await house.post(STREAMED)).status == 200


async def refused(house, up):
    assert (await house.post(b'{"model":"nobody","messages":[]}')).status == 404


async def closed(house, up):
    async with house.line() as line:
        await line.ask()
        await line.hear()


async def failed_elsewhere(house, up):
    up.next(Respond(500, json={"error": "boom"}), path=CHAT)
    assert (await house.post(GOOD)).status == 502


async def broken(house, up):
    up.next(Stream([sse({"choices": [{"index": 0, "delta": {"content": "hi"}}]})], end="cut"), path=CHAT)
    assert (await house.post(STREAMED)).status == 200


@pytest.mark.parametrize("way", WAYS)
def test_what_is_over_leaves_no_cycle(tmp_path, way):
    """Not a chat, a stream, an error, a broken answer or a connection that was closed."""
    left = {}

    async def run():
        async with tiny() as up, open_house(tmp_path, up, way=way) as house:
            for what in (chat, stream, refused, closed, failed_elsewhere, broken):
                await what(house, up)  # what is loaded by the first is loaded
                await asyncio.sleep(0.05)
                with only_collected() as found:
                    for _ in range(TIMES):
                        await what(house, up)
                    await asyncio.sleep(0.05)  # what is closed has a turn to end
                found.subtract(OTHER_END)
                if max(found.values(), default=0) >= TIMES:
                    left[what.__name__] = found.most_common(8)

    loop = new_loop()
    loop.run_until_complete(run())
    loop.close()
    assert not left
