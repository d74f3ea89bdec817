"""docs/clients/ has a page for every client that `nexus clients` knows, with the same lines."""

from __future__ import annotations

import pytest

from nexus.cli.clients_recipes import CLIENTS, Setting

from .clients.driving import clients
from .docs_pages import ROOT, blocks, prose

PAGES = ROOT / "docs" / "clients"


def test_there_is_a_page_for_every_client_and_no_other():
    assert {page.stem for page in PAGES.glob("*.md")} == set(CLIENTS)


@pytest.mark.parametrize("name", CLIENTS)
def test_the_page_has_the_lines_of_the_command_in_its_order(name):
    page = PAGES / f"{name}.md"
    told = [(lines.language, lines.text) for lines in CLIENTS[name].lines(Setting())]
    asked = ("sh", f"nexus clients {name}")
    assert [(block.language, block.text.strip("\n")) for block in blocks(page=page)] == [asked, *told]


@pytest.mark.parametrize("name", CLIENTS)
def test_the_page_says_where_they_go(name):
    said = prose(PAGES / f"{name}.md")
    for lines in CLIENTS[name].lines(Setting()):
        assert lines.where.partition(",")[0] in said


def test_the_lines_of_every_client_are_tried_by_make_clients():
    assert {client.page for client in clients()} == set(CLIENTS)
