"""Four servers rush at a half-open breaker: three probes reach the gateway; a killed prober's leases are given on."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pgw.core.writes.attempts import SENDING_MARGIN
from tests.faults.proof import ledger_of, violations
from tests.seams.fleet import Customers, Fleet, Server, Told, fleet
from tests.seams.razorpay import CountingRazorpay, Mood, counting_razorpay
from tests.services import ask_redis

SERVERS, CALLS = 4, 25
PROBES = 3
NOT_SENT_IN_A_ROW = 5
OPEN_S = 3
HELD_MS, DYING_MS = 20_000, 2_000
"""Time of one attempt: while the rush is counted no probe may run out; a dead prober's lease shall end soon."""

WAIT_S = 30.0
BREAKER = "{pgw}:breaker:razorpay:UPI"

pytestmark = pytest.mark.slow


async def _until(condition: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(WAIT_S):
        # Other processes are polled, which send no notification.
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    print(f"  {what}")


async def _until_all(servers: Sequence[Server], state: str, what: str) -> None:
    seen: list[str] = []
    try:
        async with asyncio.timeout(WAIT_S):
            # Other processes are polled, which send no notification.
            while set(seen := await asyncio.to_thread(_states, servers)) != {state}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what}: not {state} everywhere, but {seen}") from None
    print(f"  {what}")


def _states(servers: Sequence[Server]) -> list[str]:
    return [each.breaker("razorpay")["state"] for each in servers]


def _prepare(server: Server) -> None:
    """Let razorpay be everybody's first choice, its breaker quick, and its attempts longer than the counting."""
    _, document = server.ask("GET", "/scoring/config")
    document["method_affinity"] = {"razorpay": {"UPI": 1.0}, "hdfc": {"UPI": 0.0}}
    document["breaker"] |= {"open_s": OPEN_S, "probes": PROBES, "not_sent_in_a_row": NOT_SENT_IN_A_ROW}
    assert server.ask("PUT", "/scoring/config", document)[0] == 200
    for each in ("icici", "axis"):
        assert server.ask("PATCH", f"/gateways/{each}", {"is_enabled": False})[0] == 200
    _let_last(server, HELD_MS)


def _let_last(server: Server, timeout_ms: int) -> None:
    assert server.ask("PATCH", "/gateways/razorpay", {"timeout_ms": timeout_ms})[0] == 200


async def _half_open(servers: Sequence[Server]) -> None:
    """Force it open and take that back: everywhere it is to be probed then."""
    for server, verb, state in ((servers[0], "force-open", "FORCED_OPEN"), (servers[1], "clear", "HALF_OPEN")):
        path = f"/circuit-breaker/{verb}/razorpay/UPI"
        status, document = await asyncio.to_thread(server.ask, "POST", path, {"reason": "drill"})
        assert status == 200, document
        await _until_all(servers, state, f"{verb}: {state} everywhere")


class _Crowd:
    """Everybody who pays at these servers."""

    def __init__(self, customers: Customers, servers: Sequence[Server]) -> None:
        self._customers = customers
        self._addresses = [(each, each.address) for each in servers]
        self._count = 0

    def pays(self, server: Server) -> asyncio.Task[Told]:
        """Begin one payment."""
        self._count += 1
        address = next(at for each, at in self._addresses if each is server)
        return asyncio.create_task(self._customers.pay(server, address, f"rush-{self._count}"))

    def rush(self, servers: Sequence[Server], calls: int) -> list[asyncio.Task[Told]]:
        """Let as many pay everywhere at once."""
        return [self.pays(server) for _ in range(calls) for server in servers]


async def _rushed(crowd: _Crowd, servers: Sequence[Server], gateway: CountingRazorpay, what: str) -> str:
    """Rush; all but the probers are served elsewhere while those wait, and then close the breaker."""
    gateway.reset(Mood.HOLDS)
    begun = time.monotonic()
    paying = crowd.rush(servers, CALLS)
    done: set[asyncio.Task[Told]] = set()
    async with asyncio.timeout(WAIT_S):
        while len(done) < SERVERS * CALLS - PROBES:
            done, _ = await asyncio.wait(paying, timeout=0.02)
    took_s = time.monotonic() - begun
    await _until(lambda: len(gateway.charges) == SERVERS * CALLS - len(done), "those that are left are at the gateway")
    seen = (len(gateway.orders), len(gateway.charges), gateway.most_waiting)
    print(f"  {what}: {len(paying)} calls of {SERVERS} processes in {took_s:.2f} s: {seen[1]} reached the gateway")
    assert seen == (PROBES, PROBES, PROBES)
    assert {(each.result().code, each.result().document["gateway_used"]) for each in done} == {(201, "hdfc")}
    gateway.let_go()
    probes = [each.document["status"] for each in await asyncio.gather(*paying) if each.code == 202]
    assert probes == ["REQUIRES_ACTION"] * PROBES
    await _until_all(servers, "CLOSED", "three good probes closed it everywhere")
    return f"{seen[1]} of {len(paying)} calls"


async def _tripped(crowd: _Crowd, servers: Sequence[Server], gateway: CountingRazorpay) -> None:
    """Let every process find the gateway dead, and wait for the end of the open time."""
    gateway.reset(Mood.REFUSES)
    async with asyncio.timeout(WAIT_S):
        while set(await asyncio.to_thread(_states, servers)) != {"OPEN"}:
            await asyncio.gather(*crowd.rush(servers, 1))
    print(f"  {len(gateway.orders)} refused orders opened it everywhere")
    await _until_all(servers, "HALF_OPEN", "its open time is over")


async def _killed(crowd: _Crowd, servers: Sequence[Server], gateway: CountingRazorpay, redis_url: str) -> str:
    """Kill the one process that probes: its leases hold until they run out, and are given on then."""
    dying, *living = servers
    await asyncio.to_thread(_let_last, dying, DYING_MS)
    await _half_open(servers)
    gateway.reset(Mood.HOLDS)
    lost = [crowd.pays(dying) for _ in range(PROBES)]
    await _until(lambda: len(gateway.charges) == PROBES, "one process has all the probes, and is killed")
    dying.kill()
    stored: dict[str, Any] = json.loads(ask_redis(redis_url, "GET", BREAKER) or "")
    ends = [each["until"] for each in stored["leases"]]
    assert len(ends) == PROBES
    await asyncio.gather(*lost, return_exceptions=True)
    gateway.mood = Mood.ANSWERS
    denied = 0
    while not (fresh := gateway.charges[PROBES:]):
        assert time.time() < max(ends) + WAIT_S, "a dead prober's lease was never given on"
        told = await crowd.pays(living[denied % len(living)])
        denied += told.document["gateway_used"] == "hdfc"
        await asyncio.sleep(0.02)
    lease_s = DYING_MS / 1000 + SENDING_MARGIN.total_seconds()
    print(
        f"  killed: {denied} payments went elsewhere while its leases of {lease_s:.0f} s held; the next probe came"
        f" {fresh[0].at - min(ends):+.2f} s after the end of the first"
    )
    assert fresh[0].at >= min(ends)
    assert denied
    for _ in range(PROBES):
        await crowd.pays(living[0])
    await _until_all(living, "CLOSED", "others probed it, and it is closed")
    too_soon = sum(each.at < min(ends) for each in fresh)
    return f"the dead prober's {len(ends)} slots: {too_soon} given on before their end, then closed"


def test_a_stampede_of_four_processes_lets_three_probes_through(
    tmp_path: Path, database_url: str, redis_url: str, saw: Callable[..., None]
) -> None:
    """After an open time, and after a forced one; and a prober that dies by SIGKILL does not keep the others out."""

    async def scenario() -> tuple[str, str, str]:
        async with counting_razorpay() as gateway, Customers() as customers:
            keys = {"RAZORPAY_KEY_ID": "rzp_test_seams", "RAZORPAY_KEY_SECRET": "secret"}
            stores = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "RAZORPAY_BASE_URL": gateway.address}
            with fleet(tmp_path, **stores, **keys) as running:
                servers = await asyncio.to_thread(_started, running)
                crowd = _Crowd(customers, servers)
                await _tripped(crowd, servers, gateway)
                one = await _rushed(crowd, servers, gateway, "at the end of its open time")
                await _half_open(servers)
                other = await _rushed(crowd, servers, gateway, "at the end of a forced one")
                return one, other, await _killed(crowd, servers, gateway, redis_url)

    print()
    one, other, killed = asyncio.run(scenario())
    found = violations(ledger_of(tmp_path, database_url))
    assert found == ()
    assert one == other
    saw(40, f"{one} are probes; {killed}; {len(found)} violations")


def _started(running: Fleet) -> list[Server]:
    running.upgrade()
    first = running.serve()
    # Before the others start, so that none of them trips by the rules of before.
    _prepare(first)
    return [first, *(running.serve() for _ in range(SERVERS - 1))]
