"""A home, a seed -> a fleet killed under load, member by member, its stores too: what was answered, what is left.

Whoever is killed is started again at once, and the next is killed whatever is still on its way from the time before.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from pgw.settings import load
from tests.core.hot.mortal import MortalRedis, mortal_redis
from tests.core.ledger.mortal import MortalPostgres, mortal_postgres
from tests.ledgers import opened
from tests.seams.counting import agreed
from tests.seams.fleet import Fleet, Member, Server, fleet
from tests.seams.killing import Killed, agree_on_every_key, healed, violated
from tests.seams.load import Address, Clients
from tests.seams.serving import GATEWAY_TIMEOUT_MS, Records, audit

SERVERS, COUNTERS = 2, 2
ASKING = 8
"""Connections that ask for every key once more."""

SERVER, VERIFIER, COUNTER, REDIS, POSTGRES = "server", "verifier", "metrics worker", "Redis", "PostgreSQL"
VICTIMS: Mapping[str, int] = {SERVER: 4, VERIFIER: 2, COUNTER: 2, REDIS: 1, POSTGRES: 1}
"""Of ten kills in a row, so many are of each kind, in any order."""

MOST_ANSWERS = 60
"""Answers that may come before the next kill."""

LONGEST_AWAY_S = 1.5
"""How long a killed store stays away at most: some commits find it again in time, and others do not."""

COUNTED_WITHIN_S = 60.0
"""A killed worker's entries are taken over after three seconds; minutes are written every five."""


@dataclass(frozen=True, slots=True)
class FleetKilled(Killed):
    """Beside it who was killed, and whether the metrics are what a recount says."""

    kinds: Counter[str]
    is_counted: bool

    def wrong(self) -> list[str]:
        """Name everything that is wrong."""
        return [*Killed.wrong(self), *([] if self.is_counted else ["the metrics are not what a recount says"])]

    def figures(self) -> str:
        """Say it in one line."""
        kinds = ", ".join(f"{name} {self.kinds[name]}" for name in VICTIMS)
        counted = "equal" if self.is_counted else "not equal"
        return f"killed: {kinds}; {Killed.figures(self)}, metrics {counted} a recount"


class Herd(Records):
    """The fleet and its stores."""

    def __init__(self, running: Fleet, postgres: MortalPostgres, redis: MortalRedis) -> None:
        super().__init__(running.folder / ".pgw", load({"DATABASE_URL": postgres.url}).database)
        self.postgres, self.redis = postgres, redis
        self._fleet = running
        running.upgrade()
        self._servers = [running.serve() for _ in range(SERVERS)]
        self._verifier = running.work("verify")
        self._counters = [running.work("metrics") for _ in range(COUNTERS)]
        self.addresses: list[Address] = [_address(each) for each in self._servers]

    def kill(self, kind: str, rng: Random) -> None:
        """Kill one of a kind, and start it again where its place was: Redis empty, PostgreSQL on its data."""
        if kind == SERVER:
            number = rng.randrange(SERVERS)
            self._servers[number].kill()
            self._servers[number] = self._fleet.serve()
            self.addresses[number] = _address(self._servers[number])
        elif kind == VERIFIER:
            self._verifier.kill()
            self._verifier = self._fleet.work("verify")
        elif kind == COUNTER:
            number = rng.randrange(COUNTERS)
            self._counters[number].kill()
            self._counters[number] = self._fleet.work("metrics")
        else:
            store = self.redis if kind == REDIS else self.postgres
            store.kill()
            time.sleep(rng.uniform(0.0, LONGEST_AWAY_S))
            store.start()

    def stop(self) -> list[int]:
        """Ask all of them to stop, and return how they ended."""
        members: list[Member] = [*self._servers, self._verifier, *self._counters]
        return [each.stop() for each in members]

    def words(self) -> str:
        """Return what all of them have said, those that were killed too."""
        return "".join(each.words() for each in self._fleet.members)


def _address(server: Server) -> Address:
    parts = urlsplit(server.address)
    return str(parts.hostname), int(parts.port or 0)


@contextmanager
def herd(folder: Path) -> Iterator[Herd]:
    """Start a fleet on stores of its own, and end it whatever happens."""
    with mortal_postgres() as postgres, mortal_redis() as redis:
        stores = {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url, "GATEWAY_TIMEOUT_MS": str(GATEWAY_TIMEOUT_MS)}
        with fleet(folder, **stores) as running:
            yield Herd(running, postgres, redis)


def killed_fleet(opened: Herd, seed: int, kills: int, tell: Callable[[str], None] = lambda _: None) -> FleetKilled:
    """Kill, then heal once, ask every key again, and compare. `tell` hears of every kill."""
    rng = Random(seed)
    kinds = list(islice(_victims(rng), kills))

    async def scenario() -> Clients:
        clients = Clients(seed)
        async with clients.at_fleet(opened.addresses):
            for number, kind in enumerate(kinds, 1):
                await clients.answered(rng.randint(1, MOST_ANSWERS))
                tell(f"kill {number}: {kind}")
                await asyncio.to_thread(opened.kill, kind, rng)
        await healed(opened)
        await _ask_every_key(clients, opened.addresses[0])
        # What never got through is a payment only now, and some of those never answer.
        await healed(opened)
        return clients

    clients = asyncio.run(scenario())
    is_counted = asyncio.run(_is_counted(opened))
    return FleetKilled(clients, audit(opened), violated(opened), Counter(kinds), is_counted)


def _victims(rng: Random) -> Iterator[str]:
    ten = list(Counter(VICTIMS).elements())
    while True:
        rng.shuffle(ten)
        yield from ten


async def _ask_every_key(clients: Clients, address: Address) -> None:
    parts = [clients.keys[start::ASKING] for start in range(ASKING)]
    for now in await asyncio.gather(*(clients.ask_again(address, part) for part in parts if part)):
        agree_on_every_key(clients, now)


async def _is_counted(herd: Herd) -> bool:
    async with opened(herd.database) as ledger:
        return await agreed(ledger, herd.database, herd.redis.url, COUNTED_WITHIN_S)
