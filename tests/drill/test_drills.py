"""Each drill in fast mode, end to end: no money is lost or taken twice; the real ledger and gateways stay alone."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pgw.cli.exits import Exit
from tests.cli.conftest import Pgw, _fresh_ledger, home, ledger, pgw  # noqa: F401  # pytest finds fixtures by name

pytestmark = pytest.mark.slow


def _card(pgw: Pgw, *words: str) -> dict[str, Any]:  # noqa: F811  # the fixture's value
    ended = pgw("drill", *words, "--fast", "-o", "json")
    assert ended.code == Exit.DONE, ended.err
    card: dict[str, Any] = json.loads(ended.out)
    assert (card["double_charges"], card["lost"], card["passed"]) == (0, 0, True)
    assert card["payments"] > 100
    return card


@pytest.mark.parametrize("kind", ["outage", "brownout", "timeout", "lost-response"])
def test_a_gateway_fails_and_no_money_does(
    pgw: Pgw,  # noqa: F811
    ledger: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """The keys of a real gateway are set, and a ledger is there: neither the one nor the other is touched."""
    monkeypatch.setenv("RAZORPAY_KEY_ID", "rzp_test_0123456789")
    monkeypatch.setenv("RAZORPAY_KEY_SECRET", "a secret of nobody")
    monkeypatch.setattr("pgw.core.gateways.razorpay.Razorpay.__init__", _never)
    before = hashlib.sha256(ledger.read_bytes()).hexdigest()
    card = _card(pgw, kind)
    assert hashlib.sha256(ledger.read_bytes()).hexdigest() == before
    assert not (ledger.parent / "sandbox.book").exists()
    assert (card["gateway_id"], card["share_before"]) == ("razorpay", 1.0)
    assert card["met"] > 0
    assert "MISSING" not in card["pending_ended"]
    if kind == "lost-response":
        assert card["pending"] > 0
        assert {"SUCCESS": card["pending"]} == card["pending_ended"]


def test_webhooks_by_the_hundred_change_no_payment(pgw: Pgw) -> None:  # noqa: F811
    card = _card(pgw, "webhook-storm")
    assert card["storm"]["wrong"] == 0
    assert min(card["storm"][word] for word in ("kept", "duplicates", "refused")) > 0
    assert card["failed"] == 0


def test_a_lost_redis_fails_no_payment(pgw: Pgw, redis_url: str) -> None:  # noqa: F811
    card = _card(pgw, "redis-loss", "--redis", redis_url)
    assert (card["failed"], card["refused"]) == (0, 0)


def _never(*_: object, **__: object) -> None:
    raise AssertionError("a real gateway's adapter was made")
