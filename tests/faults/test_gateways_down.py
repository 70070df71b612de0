"""Gateways that take no connection: all of a method, for everybody; one, for one server of several."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pgw.core.ledger.tables import payments
from tests.faults.proof import ledger_of, settled, settled_in, violations
from tests.faults.till import Till, razorpay_first, till
from tests.faults.wire_gateway import KEY_ID, SECRET, WireGateway
from tests.seams.fleet import Server, body_of, fleet
from tests.seams.serving import wait_until
from tests.services import ask_redis

pytestmark = pytest.mark.slow

Saw = Callable[..., None]

IN_A_ROW = 5
"""Refused connections after which a breaker opens."""

MOST_PAID = 4 * IN_A_ROW
BREAKER = "{pgw}:breaker:razorpay:UPI"
SERVERS = 3
"""Half of those who call a gateway may leave it for all, so one of two is no minority."""


@pytest.fixture
def razorpay() -> Iterator[WireGateway]:
    with WireGateway() as gateway:
        yield gateway
        assert gateway.book.odd == []


@pytest.fixture
def shop(razorpay: WireGateway, tmp_path: Path) -> Iterator[Till]:
    """Give a till at which both gateways are down: nobody takes a connection, and hdfc has an outage."""
    with till(tmp_path, razorpay.address, {"not_sent_in_a_row": IN_A_ROW}) as opened:
        razorpay.refuse()
        began = datetime.now(UTC) - timedelta(hours=1)
        told = {"sandbox": {"UPI": {"outage": [f"{began:%Y-%m-%dT%H:%MZ}/P1D"]}}}
        assert opened.ask("PATCH", "/gateways/hdfc", told).code == 200
        yield opened


def test_all_gateways_refuse_then_all_breakers_are_open(shop: Till, razorpay: WireGateway, saw: Saw) -> None:
    """While they are tried a payment fails, for nothing was sent; once nobody may be tried there is none at all."""
    first = shop.pay()
    seen = shop.seen(first, razorpay)
    assert (seen.answer, first.document["failure_code"]) == ("201 FAILURE", "GATEWAYS_UNAVAILABLE")
    assert seen.tried == ("razorpay NOT_SENT_REFUSED", "hdfc NOT_SENT_REFUSED")
    assert (seen.orders, seen.posts, seen.charges) == (0, 0, 0)
    made, last = 1, first
    while last.code == 201 and made < MOST_PAID:
        last = shop.pay()
        made += last.code == 201
    assert last.words == "503 NO_GATEWAY_AVAILABLE"
    assert int(last.headers["Retry-After"]) > 0
    ended = shop.shop.rows(payments)
    assert [each["status"] for each in ended] == ["FAILURE"] * made
    again = shop.again(first)
    assert again.words == first.words
    assert again.document["payment_id"] == first.document["payment_id"]
    saw(15, f"{seen.words}; {first.document['failure_code']}", case="while they are tried")
    money = len((*razorpay.book.statement(), *settled(shop.shop.book())))
    assert money == 0
    kept = f"{len(violations(shop.shop.database, gateways=('razorpay', 'hdfc')))} violations"
    held = "with" if "Retry-After" in last.headers else "without"
    saw(15, f"{last.words} {held} Retry-After, no row; {money} charges; {kept}", case="once all breakers are open")


@dataclass
class Servers:
    """Those that reach razorpay, and one that does not; all on one ledger and one Redis."""

    well: Sequence[Server]
    blocked: Server
    paid: list[str] = field(default_factory=list)

    def pay(self, server: Server) -> dict[str, Any]:
        """Pay once at one of them; return the decision, with the `payment` and its `attempts`."""
        key = f"down-{len(self.paid)}"
        code, payment = server.ask("POST", "/payments", body_of(key), **{"Idempotency-Key": key})
        assert code in {201, 202}, payment
        self.paid.append(payment["payment_id"])
        path = f"/payments/{payment['payment_id']}"
        decision: dict[str, Any] = server.ask("GET", f"{path}/routing-decision")[1]
        return {**decision, "payment": payment, **server.ask("GET", f"{path}/attempts")[1]}

    def has_ended(self) -> bool:
        """Whether every payment is a SUCCESS."""
        documents = (self.well[0].ask("GET", f"/payments/{each}")[1] for each in self.paid)
        return {each["status"] for each in documents} == {"SUCCESS"}


@pytest.fixture
def servers(razorpay: WireGateway, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Servers]:
    """Start them, and a worker that asks what became of payments."""
    keys = {"RAZORPAY_KEY_ID": KEY_ID, "RAZORPAY_KEY_SECRET": SECRET, "RAZORPAY_BASE_URL": razorpay.address}
    stores = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PGW_HOME": str(tmp_path / "home")}
    with WireGateway() as elsewhere, fleet(tmp_path, **keys, **stores) as running:
        elsewhere.refuse()
        running.upgrade()
        well = [running.serve("--gateways", "razorpay,hdfc") for _ in range(SERVERS - 1)]
        running.work("verify")
        running.environ["RAZORPAY_BASE_URL"] = elsewhere.address
        yield Servers(well, running.serve("--gateways", "razorpay,hdfc"))


def shared(redis_url: str) -> dict[str, Any]:
    """Return razorpay's breaker, as all share it."""
    raw = ask_redis(redis_url, "GET", BREAKER)
    return {"state": "CLOSED", "callers": {}} if raw is None else dict(json.loads(raw))


def votes(redis_url: str) -> list[bool]:
    """Return of each server that called razorpay whether it would leave it."""
    return sorted(each["trips"] for each in shared(redis_url)["callers"].values())


def test_one_server_whose_way_to_the_gateway_is_blocked(
    servers: Servers, razorpay: WireGateway, database_url: str, redis_url: str, tmp_path: Path, saw: Saw
) -> None:
    """It alone leaves the gateway; the others keep charging there, and what all share stays closed."""
    scoring = servers.well[0].ask("GET", "/scoring/config")[1]
    wanted = razorpay_first(scoring, {"not_sent_in_a_row": IN_A_ROW})
    assert servers.well[0].ask("PUT", "/scoring/config", wanted)[0] == 200
    everyone = (*servers.well, servers.blocked)
    version = servers.well[0].ask("GET", "/scoring/config")[1]
    wait_until(lambda: all(each.ask("GET", "/scoring/config")[1] == version for each in everyone), "one configuration")

    for each in servers.well:
        assert servers.pay(each)["payment"]["gateway_used"] == "razorpay"
    wait_until(lambda: votes(redis_url) == [False] * len(servers.well), "the votes to stay")
    tried = [servers.pay(servers.blocked) for _ in range(IN_A_ROW)]
    assert {_gateways(each) for each in tried} == {("razorpay", "hdfc")}
    wait_until(lambda: servers.blocked.breaker("razorpay")["state"] == "OPEN", "its own breaker")
    wait_until(lambda: votes(redis_url) == [False] * len(servers.well) + [True], "its vote")

    left = servers.pay(servers.blocked)
    why = {each["gateway_id"]: each["reason"] for each in left["excluded"]}["razorpay"]
    assert (_gateways(left), why) == (("hdfc",), "BREAKER_OPEN")
    stayed = [_gateways(servers.pay(each)) for each in servers.well for _ in range(2)]
    assert set(stayed) == {("razorpay",)}
    state, seen_by = shared(redis_url)["state"], [each.breaker("razorpay")["state"] for each in everyone]
    assert (state, seen_by) == ("CLOSED", ["CLOSED"] * len(servers.well) + ["OPEN"])

    wait_until(servers.has_ended, "the end of all payments")
    lines = (*razorpay.book.statement(), *settled_in(tmp_path / "home"))
    assert sorted(each.payment_id for each in lines) == sorted(servers.paid)
    broken = violations(ledger_of(tmp_path / "home", database_url), lines)
    assert broken == ()
    others = f"{seen_by.count('CLOSED')} others at {' '.join(sorted({name for each in stayed for name in each}))}"
    charges = f"{len(lines)} charges of {len(servers.paid)} payments"
    saw(41, f"{why} there, {others}; shared {state}; {charges}; {len(broken)} violations")


def _gateways(paid: dict[str, Any]) -> tuple[str, ...]:
    return tuple(each["gateway_id"] for each in paid["attempts"])
