"""`pgw breaker force-open razorpay UPI` as typed: the next decision of every process knows it, and all see by whom."""

import asyncio
import getpass
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pgw.core.ledger.configuration import breaker_subject
from tests.ledgers import administrator
from tests.seams.fleet import Customers, Fleet, Server, Spoken, Told, fleet
from tests.seams.razorpay import counting_razorpay
from tests.seams.serving import wait_until

COMMAND = "pgw breaker force-open razorpay UPI"
EFFECT_WITHIN_S = 1.0
PAY_EVERY_S = 0.03
KNOWN_WITHIN_S = 15.0
RUNS = 5
"""Runs of the command whose processor time is shown; the first one may have to write Python's caches."""

FORCED = {"gateway_id": "razorpay", "reason": "FORCED_OPEN"}
HEAD = "SELECT max(version) FROM configurations"
CHANGED_AT = "SELECT max(changed_at) FROM configurations WHERE subject = %s"

pytestmark = pytest.mark.slow


class _Shoppers:
    """They pay at every server, again and again, and keep the answers."""

    def __init__(self, customers: Customers, servers: Sequence[Server]) -> None:
        self.customers = customers
        self.addresses = {each.process.pid: each.address for each in servers}
        self.servers = servers
        self.told: list[Told] = []

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Let them pay for as long as the block runs, and then once more at each server."""
        paying = [asyncio.create_task(self._pay(each)) for each in self.servers]
        try:
            yield
        finally:
            for each in paying:
                each.cancel()
            await asyncio.gather(*paying, return_exceptions=True)

    async def _pay(self, server: Server) -> None:
        while True:
            await self.once(server)
            await asyncio.sleep(PAY_EVERY_S)

    async def once(self, server: Server) -> Told:
        """Pay once."""
        pid = server.process.pid
        told = await self.customers.pay(server, self.addresses[pid], f"shop-{pid}-{len(self.of(server))}")
        self.told.append(told)
        return told

    def of(self, server: Server) -> list[str]:
        """Name the payments of one server."""
        return [each.document["payment_id"] for each in self.told if each.server is server]

    async def decided(self, server: Server) -> list[tuple[datetime, bool]]:
        """Read when each payment of a server was decided, and whether razorpay was excluded as forced open."""
        found = await self.customers.decisions(self.addresses[server.process.pid], self.of(server))
        return sorted((datetime.fromisoformat(each["decided_at"]), FORCED in each["excluded"]) for each in found)


def _head(database_url: str) -> int:
    with administrator(database_url) as session:
        row = session.execute(HEAD).fetchone()
    assert row is not None
    return int(row[0])


def _changed_at(database_url: str) -> datetime:
    with administrator(database_url) as session:
        row = session.execute(CHANGED_AT, (breaker_subject("razorpay", "UPI"),)).fetchone()
    assert row is not None
    moment = row[0]
    return moment if isinstance(moment, datetime) else datetime.fromisoformat(moment)


async def _effect(shoppers: _Shoppers, running: Fleet, database_url: str) -> None:
    """Type it while customers pay, and check every decision around that time."""
    async with shoppers.at_work():
        async with asyncio.timeout(KNOWN_WITHIN_S):
            # No event says when a server has answered its first payment.
            while not all(shoppers.of(each) for each in shoppers.servers):  # noqa: ASYNC110
                await asyncio.sleep(PAY_EVERY_S)
        said = await asyncio.to_thread(running.type, COMMAND)
        assert said.code == 0, said.err
        # Until a second after the order there may be decisions that do not know of it; later there must be none.
        await asyncio.sleep(EFFECT_WITHIN_S + 5 * PAY_EVERY_S)
    print(f"\n$ {COMMAND}\n{said.out}{said.err}")
    ordered = _changed_at(database_url)
    for number, server in enumerate(shoppers.servers):
        decided = await shoppers.decided(server)
        before = [forced for at, forced in decided if at < ordered]
        unaware = [(at - ordered).total_seconds() for at, forced in decided if at >= ordered and not forced]
        aware = [(at - ordered).total_seconds() for at, forced in decided if forced]
        print(
            f"server {number}: {len(before)} decisions before, {len(unaware)} not yet aware (the last"
            f" {max(unaware, default=0.0) * 1000:.0f} ms after the order), excluded from {min(aware) * 1000:.0f} ms on"
        )
        assert before
        assert not any(before)
        assert max(unaware, default=0.0) <= EFFECT_WITHIN_S
        assert decided[-1][1]


def _seen(running: Fleet) -> None:
    """The screen says who, why and until when; so does the document."""
    screen = running.type("pgw breaker status razorpay UPI")
    print(f"$ pgw breaker status razorpay UPI\n{screen.out}{screen.err}")

    def known() -> dict[str, Any]:
        [item] = json.loads(running.type("pgw breaker status razorpay UPI -o json").out)["items"]
        return dict(item)

    wait_until(lambda: known()["seen_by"] == {"processes": 2, "of": 2}, "both processes' word")
    item = known()
    order = item["override"]
    assert (item["state"], order["actor"], order["reason"]) == ("FORCED_OPEN", getpass.getuser(), "unspecified")
    end = datetime.fromisoformat(order["expires_at"])
    assert end - datetime.fromisoformat(order["forced_at"]) == timedelta(hours=1)
    for word in ("FORCED OPEN", getpass.getuser(), "unspecified", f"{end:%H:%M}"):
        assert word in screen.out


def _nothing_written(running: Fleet, database_url: str) -> None:
    """What cannot be meant is refused with the way out, and changes nothing."""
    head = _head(database_url)
    for line, code, hint in (
        ("pgw breaker force-open razorpy UPI", 3, "did you mean 'razorpay'?"),
        ("pgw breaker force-open razorpay WALLET", 2, "it takes UPI, CARD, NETBANKING"),
    ):
        said = running.type(line)
        print(f"$ {line}\n{said.err}exit {said.code}")
        assert (said.code, said.out) == (code, "")
        assert hint in said.err
    assert _head(database_url) == head


def _shown(runs: Sequence[Spoken]) -> str:
    return ", ".join(f"{1000 * each.cpu_s:.0f}" for each in runs)


def test_force_open_as_typed_holds_in_every_process_within_a_second(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    """Typed where the servers' settings hold; what it costs is printed, not judged."""

    async def scenario() -> None:
        async with counting_razorpay() as gateway, Customers() as customers:
            keys = {"RAZORPAY_KEY_ID": "rzp_test_seams", "RAZORPAY_KEY_SECRET": "secret"}
            stores = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "RAZORPAY_BASE_URL": gateway.address}
            with fleet(tmp_path, **stores, **keys) as running:
                servers = await asyncio.to_thread(_started, running)
                shoppers = _Shoppers(customers, servers)
                await _effect(shoppers, running, database_url)
                await asyncio.to_thread(_seen, running)
                again = [await asyncio.to_thread(running.type, COMMAND) for _ in range(RUNS)]
                assert {each.code for each in again} == {0}
                print(f"processor time of `{COMMAND}`: {_shown(again)} ms (goal 200)")
                await asyncio.to_thread(_nothing_written, running, database_url)

    asyncio.run(scenario())


def _started(running: Fleet) -> list[Server]:
    running.upgrade()
    return [running.serve(), running.serve()]


def test_force_open_typed_where_there_is_no_store_creates_nothing(tmp_path: Path) -> None:
    """Exit 6, the three settings named, and the folder as empty as before."""
    empty = tmp_path / "empty"
    empty.mkdir()
    with fleet(tmp_path) as running:
        began = time.monotonic()
        said = running.type(COMMAND, cwd=empty, environ=running.bare)
        took_s = time.monotonic() - began
    print(f"\n$ {COMMAND}\n{said.err}exit {said.code} after {took_s:.2f} s, {1000 * said.cpu_s:.0f} ms of processor")
    assert (said.code, said.out) == (6, "")
    assert list(empty.iterdir()) == []
    for name in ("PGW_HOME", "DATABASE_URL", "PGW_SERVER"):
        assert name in said.err
