"""Real clients through a real gateway before the real llama.cpp: OpenAI's and Anthropic's SDKs, Claude Code, Continue.

They are installed by npm into `.clients`, except Python's SDKs, which the tests' own environment has.  Other clients are
`make clients`', and so is Claude Code at a terminal.
"""

from __future__ import annotations

import os
import shutil

import pytest

from .clients.driving import clients, drive_one
from .clients.scenarios import INTERACTIVE, Client

HERE = ("openai-python", "anthropic-python", "openai-js", "anthropic-js", "claude-code", "continue")
CASES = [(client, way) for client in clients() if client.name in HERE for way in client.ways]

pytestmark = pytest.mark.network


@pytest.mark.parametrize(("client", "way"), CASES, ids=[f"{client.name}-{way}" for client, way in CASES])
def test_a_client_is_served(client: Client, way: str, tmp_path):
    if not shutil.which("npm") and "CI" not in os.environ and not client.name.endswith("python"):
        pytest.skip("npm is not installed on this machine")
    client.install()
    row = drive_one(client, way, tmp_path, without=frozenset({INTERACTIVE}))
    assert row.outcomes, "nothing was tried"
    assert row.outcomes == dict.fromkeys(row.outcomes, "")


def test_none_of_them_has_gone_by_another_name():
    assert {client.name for client, _ in CASES} == set(HERE)
