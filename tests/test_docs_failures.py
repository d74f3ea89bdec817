"""The page of the table of failures says what the source says: every line, every fault, every code of an attempt."""

from __future__ import annotations

import re

from nexus.catalog import Catalog
from nexus.failures import STATUSES, WORDS
from nexus.model import Fault
from nexus.outcome import BY_STATUS

from .failures_page import PAGE, TABLE, renewed, tables

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_source():
    assert {found["name"] for found in TABLE.finditer(TEXT)} == set(tables())
    assert renewed(TEXT) == TEXT, "run: python -m tests.failures_page"


def test_every_fault_is_explained_and_no_other():
    section = TEXT.partition("## Whose fault\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| ([a-z]+) \|", section, re.MULTILINE)[1:] == [fault.value for fault in Fault]


def test_every_code_is_explained_and_no_other():
    section = TEXT.partition("## Codes\n")[2].partition("\n## ")[0]
    rules = [*WORDS, *STATUSES, *(rule for kind in Catalog.load().backends.values() for rule in kind.failures)]
    used = {rule.code for rule in rules if rule.code and not rule.code.startswith("no_")} | {BY_STATUS, "no_…"}
    assert set(re.findall(r"^\| `([a-z_…]+)` \|", section, re.MULTILINE)) == used


def test_who_says_so_is_told_for_every_line_by_words():
    for rule in (*WORDS, *(rule for kind in Catalog.load().backends.values() for rule in kind.failures)):
        assert rule.source, rule
