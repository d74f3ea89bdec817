"""What happens in the demo: six chapters, each a few real requests and what they show.  How it looks is the teller's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from nexus.cli.calling import calling
from nexus.cli.demo.asking import PICTURE, Client, Said
from nexus.cli.demo.fleet import HOME_SLOTS, MODEL, PICTURES, Servers
from nexus.cli.demo.telling import Teller
from nexus.testing.waits import until

PRIVATE = {"X-Nexus-Zone": "restricted"}
FLEXIBLE = {"X-Nexus-Flexible": "true"}
PRIVATE_BURST, BURST, KILLED_BURST = 6, 10, 6
RECOVERY_SECONDS = 20.0


@attrs.define
class Story:
    """One telling.  `chapters` are the results so far, for `--json`."""

    client: Client
    servers: Servers
    teller: Teller
    chapters: list[dict[str, Any]] = attrs.field(factory=list)

    async def tell(self) -> None:
        """From the first chapter to the last."""
        for chapter in (self.plain, self.private, self.overflow, self.failover, self.vision, self.looking):
            await chapter()
            await self.teller.breath()

    # ---------------------------------------------------------------- chapters

    async def plain(self) -> None:
        """One chat, streamed."""
        self._begin("A plain chat", f'The client asks for "{MODEL}", as it would ask OpenAI.  Three servers at home have it.')
        with self.teller.speech():
            said = await self.client.chat(MODEL, "Hello!", heard=self.teller.word)
        self.teller.headers(said.nexus)
        self._results([said])

    async def private(self) -> None:
        """More than home can take at once, and none of it may leave."""
        self._begin(
            "What is private stays at home",
            f"{PRIVATE_BURST} requests at once with X-Nexus-Zone: restricted.  Home takes {HOME_SLOTS} at a time: the others wait.",
        )
        said = await self._burst(PRIVATE_BURST, PRIVATE)
        self._sum_up(said, "The cloud was free, and got none of them.")

    async def overflow(self) -> None:
        """The same without the header."""
        self._begin("Home is full: the cloud helps", f"{BURST} requests at once, this time without the header.")
        said = await self._burst(BURST, {})
        self._sum_up(said, "Home first, then the cloud, and the rest waits for whoever is free first.")

    async def failover(self) -> None:
        """A server dies with requests on it."""
        self._begin("A server dies", f"{KILLED_BURST} requests at once, and gpu is killed while it works on two of them.")
        said = await self._burst(KILLED_BURST, {}, meanwhile=self._kill_gpu)
        fine = sum(s.status == 200 for s in said)
        self._sum_up(said, f"{fine} of {len(said)} clients got their answer; none of them noticed.")
        await self.servers.gpu.start_listening()
        await self._healthy("gpu")
        self.teller.say("gpu is started again, and Nexus has taken it back.")

    async def vision(self) -> None:
        """A need that the model cannot meet, and one that may be met by another."""
        self._begin("A picture", f'A picture for "{MODEL}", which is blind everywhere.  Nexus says so, instead of trying:')
        refused = await self.client.chat(MODEL, PICTURE)
        self.teller.refusal(refused)
        self.teller.say(f"With X-Nexus-Flexible: true, any model will do that can see: {PICTURES} on gpu can.")
        served = await self.client.chat(MODEL, PICTURE, headers=FLEXIBLE)
        self.teller.headers(served.nexus)
        self._results([refused, served])

    async def looking(self) -> None:
        """What Nexus says about itself."""
        self._begin(
            "Why there, and why not elsewhere?",
            f"Nexus explains any request without sending it: {calling()} explain {MODEL} --zone restricted",
        )
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
        answer = await self.client.ask("POST", "/nexus/explain", {"request": body, "headers": PRIVATE})
        self.teller.explanation(answer)
        stats = await self.client.ask("GET", "/nexus/stats")
        self.teller.stats(stats)
        self.chapters[-1] |= {"explain": answer, "stats": stats}

    # ---------------------------------------------------------------- the parts

    def _begin(self, title: str, words: str) -> None:
        self.chapters.append({"title": title, "requests": []})
        self.teller.chapter(len(self.chapters), title)
        self.teller.say(words)

    def _results(self, said: Sequence[Said]) -> None:
        self.chapters[-1]["requests"] += [s.json for s in said]

    def _sum_up(self, said: Sequence[Said], words: str) -> None:
        where = Counter(s.nexus.get("backend", "nobody") for s in said)
        shares = ", ".join(f"{name} {count}" for name, count in where.most_common())
        waited = sum("queue-ms" in s.nexus and float(s.nexus["queue-ms"]) > 0 for s in said)
        self.teller.say(f"{shares}; {waited or 'none'} waited in the queue.  {words}")
        self._results(said)

    async def _burst(self, count: int, headers: Mapping[str, str], *, meanwhile: Callable[[], Any] | None = None) -> list[Said]:
        """So many requests at once; the answers in the order of the questions."""
        with self.teller.burst(count) as arrived:

            async def one(number: int) -> Said:
                said = await self.client.chat(MODEL, f"Request {number + 1}", headers=headers)
                arrived(number, said)
                return said

            asked = [one(number) for number in range(count)]
            said = await asyncio.gather(*asked, *([meanwhile()] if meanwhile else []))
        return list(said[:count])

    async def _kill_gpu(self) -> None:
        gpu = self.servers.gpu
        await until(lambda: gpu.running == 2, timeout=RECOVERY_SECONDS)
        gpu.kill()
        self.teller.note("gpu is killed now")

    async def _healthy(self, name: str) -> None:
        async with asyncio.timeout(RECOVERY_SECONDS):
            while True:
                backends = (await self.client.ask("GET", "/nexus/backends"))["backends"]
                if next(b for b in backends if b["name"] == name)["health"] == "healthy":
                    return
                await asyncio.sleep(0.1)
