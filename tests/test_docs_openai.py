"""The pages' blocks for the openai client do what they say: with a model, and where none is served yet."""

from __future__ import annotations

import asyncio
import sys

import pytest

from nexus.testing import openai_server

from .docs_pages import blocks

ADDRESS = "http://127.0.0.1:6398"
# the clients' pages are held by what drives the clients
OPENAI = [block for block in blocks("python") if "from openai import" in block.text and not block.page.startswith("docs/clients/")]


def test_there_are_such_blocks():
    assert len(OPENAI) >= 2


@pytest.mark.parametrize("block", OPENAI, ids=str)
async def test_a_page_gets_its_answer(block, nexus_gateway):
    async with openai_server(["tiny"], text="Hello there") as server:
        nexus = await nexus_gateway({"backends": [{"name": "one", "type": "openai-compatible", "url": server.url}]})
        await nexus.until(lambda: nexus.gateway.ready)
        assert await run_python(block.text.replace(ADDRESS, nexus.url)) == (0, "Hello there\n", "")


@pytest.mark.parametrize("block", OPENAI, ids=str)
async def test_a_page_says_what_to_do_where_no_model_is_served(block, nexus_gateway):
    nexus = await nexus_gateway({})
    status, out, error = await run_python(block.text.replace(ADDRESS, nexus.url))
    assert (status, out, len(error.splitlines())) == (1, "", 1)
    assert error.startswith("No model is served yet: start ")


async def run_python(text: str) -> tuple[int | None, str, str]:
    """The exit status, and what was printed to either stream."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", text, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, error = await process.communicate()
    return process.returncode, out.decode(), error.decode()
