"""A sandbox gateway's configured behaviour -> what each attempt then does, the same in every run."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.gateways.book import SandboxBook
from pgw.core.gateways.sandbox import FOREVER_S, OUT, SandboxGateway, drawn
from pgw.core.payment.outcome import Blame, Captured, GatewayDecline
from pgw.core.payment.payment import Method, Upi
from pgw.core.ports import ChargeOrder, Reference
from pgw.core.routing.gateway import SandboxBehaviour, span
from tests.doubles import NOON, VirtualClock

BAD = GatewayDecline("GATEWAY_TECHNICAL_ERROR", Blame.GATEWAY)


def order(vpa: str = "test@okhdfcbank") -> ChargeOrder:
    return ChargeOrder(
        reference=Reference("01a209b6-07db-7bfb-9c8d-7b1a3a9dbc3b", 1),
        idempotency_key="k",
        amount_minor=1000,
        currency="INR",
        instrument=Upi(vpa=vpa),
        may_send=lambda: True,
        timeout_s=2.5,
    )


def charged(tmp_path: Path, told: SandboxBehaviour, vpa: str = "test@okhdfcbank") -> tuple[object, int]:
    """Charge once; return the verdict and how many charges the book has."""
    book = SandboxBook(tmp_path / "sandbox.book")
    gateway = SandboxGateway("hdfc", book, VirtualClock(), lambda _, method: told if method is Method.UPI else None)
    verdict = asyncio.run(gateway.charge(order(vpa)))
    charges = len(book.charges(NOON))
    book.close()
    return verdict, charges


def test_a_method_that_never_succeeds_is_the_gateway_s_fault_and_moves_nothing(tmp_path: Path) -> None:
    assert charged(tmp_path, SandboxBehaviour(success_rate=0.0)) == (BAD, 0)


def test_during_an_outage_nothing_is_sent(tmp_path: Path) -> None:
    assert charged(tmp_path, SandboxBehaviour(outage=("2026-01-05T11:00Z/PT2H",))) == (OUT, 0)


def test_after_an_outage_payments_succeed(tmp_path: Path) -> None:
    verdict, charges = charged(tmp_path, SandboxBehaviour(outage=("2026-01-05T10:00Z/PT2H",)))
    assert isinstance(verdict, Captured)
    assert charges == 1


def test_what_the_address_says_beats_what_the_method_is_told(tmp_path: Path) -> None:
    told = SandboxBehaviour(success_rate=1.0)
    assert charged(tmp_path, told, "gateway-error@sandbox") == (BAD, 0)


@given(key=st.text(max_size=20), number=st.integers(1, 10), seed=st.text(max_size=5))
def test_a_draw_depends_on_its_names_only(key: str, number: int, seed: str) -> None:
    told = SandboxBehaviour(success_rate=0.5, timeout_rate=0.5, latency_ms=120)
    acts = drawn(told, seed, key, "hdfc", number)
    assert acts == drawn(told, seed, key, "hdfc", number)
    assert (acts.reason is None) == (acts.captures_after is not None)
    assert acts.answers_after_s in {0.12, FOREVER_S}


def test_draws_come_out_at_their_rates() -> None:
    """Of 4000 attempts at 0.9 and 0.25 the shares lie within four standard errors."""
    told = SandboxBehaviour(success_rate=0.9, timeout_rate=0.25)
    acts = [drawn(told, "0", f"key-{number}", "hdfc", 1) for number in range(4000)]
    succeeded = sum(each.reason is None for each in acts) / 4000
    hung = sum(each.answers_after_s == FOREVER_S for each in acts) / 4000
    assert abs(succeeded - 0.9) < 4 * (0.9 * 0.1 / 4000) ** 0.5
    assert abs(hung - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5


def test_an_interval_is_read_with_its_offset_and_duration() -> None:
    begin = datetime(2026, 1, 1, 4, 30, tzinfo=UTC)
    assert span("2026-01-01T10:00+05:30/P1DT2H3M4S") == (
        begin,
        begin + timedelta(days=1, hours=2, minutes=3, seconds=4),
    )


@pytest.mark.parametrize(
    "interval",
    ["", "2026-01-01T10:00Z", "2026-01-01T10:00/PT1H", "2026-01-01T10:00Z/P", "2026-01-01T10:00Z/PT", "x/PT1H"],
)
def test_what_is_no_interval_is_refused_at_the_door(interval: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"outage": [interval]}, SandboxBehaviour)
