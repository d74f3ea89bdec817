"""What a dialect promises between all others: the conformance suite as a test class.  The suite itself needs no pytest and is in
`nexus.testing.conformance`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nexus.testing.conformance import (
    SCENARIOS,
    TABLES,
    GoldenTable,
    Nonconforming,
    cells,
    cut_everywhere,
    ends_early,
    own_errors,
    run_cell,
    spoken,
)


class ConformanceContract:
    """Subclass it and name the dialect's `table`; `plugins` bring the dialect where it is not installed.

    `others` are the dialects that it is put together with: those whose tables come with Nexus.
    """

    table: GoldenTable
    plugins: Sequence[Any] = ()
    others: Sequence[GoldenTable] = TABLES

    @pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
    def test_the_table_says_every_scenario(self, scenario: Any) -> None:
        exchange = self.table.exchange(scenario)
        assert exchange.refused or exchange.request is not None or exchange.arrives is not None
        expected = self.table.sayable(scenario.said)
        if not exchange.refused:
            assert scenario.is_loose or self.table.streamed(b"".join(exchange.frames)) == expected
            assert self.table.whole(self.table.reply_bytes(exchange)) == expected

    @pytest.mark.asyncio
    async def test_between_its_own_bytes_pass_through(self, tmp_path: Path) -> None:
        await self._run([self.table], [self.table], tmp_path)

    @pytest.mark.asyncio
    async def test_its_clients_reach_every_server(self, tmp_path: Path) -> None:
        await self._run([self.table], self._strangers, tmp_path)

    @pytest.mark.asyncio
    async def test_its_servers_answer_every_client(self, tmp_path: Path) -> None:
        await self._run(self._strangers, [self.table], tmp_path)

    @pytest.mark.asyncio
    async def test_a_stream_says_the_same_wherever_it_is_cut(self) -> None:
        async with spoken(self.plugins) as dialects:
            for client, server in self._pairs:
                cut_everywhere(client, server, dialects)

    @pytest.mark.asyncio
    async def test_a_stream_that_ends_early_never_looks_complete(self) -> None:
        async with spoken(self.plugins) as dialects:
            for client, server in self._pairs:
                ends_early(client, server, dialects)

    @pytest.mark.asyncio
    async def test_the_gateways_own_errors_have_its_form(self) -> None:
        async with spoken(self.plugins) as dialects:
            own_errors(self.table, dialects)

    @property
    def _strangers(self) -> list[GoldenTable]:
        return [table for table in self.others if table.dialect != self.table.dialect]

    @property
    def _pairs(self) -> list[tuple[GoldenTable, GoldenTable]]:
        others = self._strangers
        return [(self.table, self.table), *((self.table, it) for it in others), *((it, self.table) for it in others)]

    async def _run(self, clients: Sequence[GoldenTable], servers: Sequence[GoldenTable], tmp_path: Path) -> None:
        wrong = []
        for number, cell in enumerate(cells(clients, servers)):
            try:
                await run_cell(cell, tmp_path / str(number), plugins=self.plugins)
            except Nonconforming as error:
                wrong.append(str(error))
        assert not wrong, "\n".join(wrong)
