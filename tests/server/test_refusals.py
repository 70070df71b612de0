"""POST /payments when something is missing: a gateway that takes it, an answer, the ledger's word, time."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from pgw.core.ids import uuid7
from pgw.core.ledger.configuration import GATEWAY
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.phase import Item, Phase
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ledger.payments import OPEN
from pgw.core.payment.outcome import ActionRequired, Blame, Captured, NotSent, Verdict
from pgw.core.payment.payment import NextAction, PaymentRequest
from pgw.core.ports import ChargeOrder, Dependencies, Gateway
from pgw.core.routing.context import make_context
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Snapshot, make_plan, seed_of
from pgw.core.writes.attempts import Announced, digest, opening
from tests.server.serving import Inside
from tests.server.wire import ADMIN, Api, eventually, new_key, payment


@dataclass(frozen=True)
class Playing:
    """A gateway that gives one verdict, and for the rest is the real one."""

    verdict: Verdict
    real: Gateway

    async def charge(self, order: ChargeOrder) -> Verdict:
        assert order.may_send()
        return self.verdict

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def _play(within: Inside, verdict: Verdict) -> None:
    """Let every gateway give this verdict from now on."""
    gateways: Any = within.runtime.gateways
    for name, real in gateways.items():
        gateways[name] = Playing(verdict, real)


def _configure(within: Inside, gateway_id: str, **members: Any) -> None:
    """Change what no route changes."""

    def changed(snapshot: Snapshot) -> GatewayConfig:
        gateway = snapshot.gateway(gateway_id)
        assert gateway is not None
        return msgspec.structs.replace(gateway, **members)

    within.within(within.runtime.snapshots.configure(GATEWAY + gateway_id, changed, "test", "test"))


def _patch_all(api: Api, **members: object) -> None:
    for gateway_id in ("hdfc", "icici", "axis"):
        assert api.call("PATCH", f"/gateways/{gateway_id}", members, ADMIN).status == 200


def _is_untaken(api: Api) -> bool:
    return api.get("/payments").document == {"items": [], "next": None} and api.charges() == []


@contextmanager
def _locked(within: Inside) -> Iterator[None]:
    """Keep the ledger from writing, as a stuck disk or another program would."""
    with closing(sqlite3.connect(within.runtime.settings.home / "pgw.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_no_gateway_is_503_and_leaves_the_key_free(within: Inside) -> None:
    key, api = new_key(), within.api
    api.set_gateways(is_enabled=False)
    refused = api.pay(key=key)
    assert refused.refusal == (503, "NO_GATEWAY_AVAILABLE")
    assert int(refused.headers["retry-after"]) >= 1
    assert _is_untaken(api)
    api.set_gateways(is_enabled=True)
    taken = api.pay(payment(amount_minor=7), key=key)
    assert (taken.status, "idempotent-replayed" in taken.headers) == (201, False)


@pytest.mark.parametrize(
    ("taken", "asked", "code"),
    [
        ({"supported_methods": ["CARD"]}, {}, "METHOD_NOT_SUPPORTED"),
        ({}, {"currency": "JPY"}, "CURRENCY_NOT_SUPPORTED"),
        ({"max_amount_minor": 999}, {}, "AMOUNT_NOT_SUPPORTED"),
        ({"min_amount_minor": 1001}, {}, "AMOUNT_NOT_SUPPORTED"),
    ],
    ids=str,
)
def test_what_no_enabled_gateway_takes_is_422_and_leaves_the_key_free(
    within: Inside, taken: dict[str, Any], asked: dict[str, Any], code: str
) -> None:
    key, api = new_key(), within.api
    _patch_all(api, **taken)
    assert api.pay(payment(**asked), key=key).refusal == (422, code)
    assert _is_untaken(api)
    _patch_all(api, supported_methods=["UPI"], min_amount_minor=1, max_amount_minor=10**12)
    assert api.pay(key=key).status == 201


def test_customer_fields_every_gateway_needs_are_asked_for(within: Inside) -> None:
    for gateway_id in ("hdfc", "icici", "axis"):
        _configure(within, gateway_id, required_fields=("customer.email",))
    key = new_key()
    refused = within.api.pay(key=key)
    assert refused.refusal == (422, "MISSING_CUSTOMER_FIELDS")
    needed_by = "is required by hdfc, icici, axis"
    assert refused.document["errors"] == [{"pointer": "/customer/email", "detail": needed_by}]
    assert within.api.pay(payment(customer={"contact": "+911234567890"}), key=key).status == 422
    assert within.api.pay(payment(customer={"email": "a@example.org"}), key=key).status == 201


@pytest.mark.parametrize("gone", ["disabled", "other methods only"])
def test_a_key_that_has_a_payment_is_answered_before_any_such_refusal(within: Inside, gone: str) -> None:
    key, api = new_key(), within.api
    first = api.pay(key=key)
    if gone == "disabled":
        api.set_gateways(is_enabled=False)
    else:
        _patch_all(api, supported_methods=["CARD"])
    again = api.pay(key=key)
    assert (again.status, again.headers["idempotent-replayed"], again.document) == (201, "true", first.document)
    assert api.pay(payment(amount_minor=2), key=key).refusal == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(api.charges()) == 1


def test_an_open_payment_is_replayed_as_202_with_its_location(within: Inside) -> None:
    key, api, body = new_key(), within.api, payment("timeout@sandbox")
    _patch_all(api, timeout_ms=50)
    first = api.pay(body, key=key)
    again = api.pay(body, key=key)
    assert (first.status, again.status, again.headers["idempotent-replayed"]) == (202, 202, "true")
    assert again.headers["location"] == first.headers["location"] == f"/payments/{first.document['payment_id']}"
    assert again.document == first.document
    assert len(api.charges()) == 1


def test_a_customer_who_must_act_is_told_what_to_do(within: Inside) -> None:
    act = NextAction(type="redirect", url="upi://pay?pa=x%40y&am=10.00")
    _play(within, ActionRequired("ref_1", act))
    answer = within.api.pay()
    assert (answer.status, answer.document["status"]) == (202, "REQUIRES_ACTION")
    assert answer.document["next_action"] == {"type": "redirect", "url": "upi://pay?pa=x%40y&am=10.00"}
    shown = within.api.get(answer.headers["location"]).document
    assert shown == answer.document


def test_when_no_gateway_could_be_reached_the_payment_failed(within: Inside) -> None:
    _play(within, NotSent("NOT_SENT_REFUSED", Blame.NETWORK))
    answer = within.api.pay()
    assert (answer.status, answer.document["status"]) == (201, "FAILURE")
    assert (answer.document["failure_code"], answer.document["gateway_used"]) == ("GATEWAYS_UNAVAILABLE", None)
    attempts = within.api.get(f"/payments/{answer.document['payment_id']}/attempts").document["attempts"]
    assert [(each["status"], each["error_code"]) for each in attempts] == [("FAILURE", "NOT_SENT_REFUSED")] * 3


def test_a_capture_of_another_amount_is_no_success(within: Inside) -> None:
    _play(within, Captured("ref_1", 999, "INR"))
    answer = within.api.pay()
    assert (answer.status, answer.document["status"]) == (202, "PENDING_VERIFICATION")


def test_a_ledger_that_does_not_confirm_the_opening_is_503_and_no_gateway_is_called(within: Inside) -> None:
    """The announcement that is written too late is ended as never sent, and the key tells so."""
    key, api = new_key(), within.api
    with _locked(within):
        refused = api.pay(key=key)
    assert refused.refusal == (503, "LEDGER_UNAVAILABLE")
    assert int(refused.headers["retry-after"]) >= 1
    written = eventually(
        lambda: next((each for each in api.get("/payments").document["items"] if each["version"] > 1), None)
    )
    assert (written["status"], written["failure_code"]) == ("FAILURE", "GATEWAYS_UNAVAILABLE")
    assert api.charges() == []
    again = api.pay(key=key)
    assert (again.status, again.document["payment_id"]) == (201, written["payment_id"])


def test_a_ledger_that_does_not_confirm_the_close_is_202_and_never_201(within: Inside) -> None:
    api, body = within.api, payment("slow@sandbox")
    with api.paying(body) as sent:
        payment_id = eventually(lambda: api.get("/payments").document["items"] or None)[0]["payment_id"]
        with _locked(within):
            answer = sent.answer()
    assert (answer.status, answer.document["status"]) == (202, "PENDING_VERIFICATION")
    assert (answer.document["payment_id"], answer.document["transaction_ref"]) == (payment_id, None)
    assert answer.headers["location"] == f"/payments/{payment_id}"
    eventually(lambda: api.get(f"/payments/{payment_id}").document["status"] == "SUCCESS" or None)


def test_a_ledger_that_does_not_confirm_a_turn_is_202_and_the_next_gateway_is_not_called(
    within: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = OpenLedger.commit

    async def no_turns(ledger: OpenLedger, phase: Phase, item: Item) -> bool:
        if phase.name == "turn":
            raise LedgerUnavailable("not in time", written=None)
        return await commit(ledger, phase, item)

    monkeypatch.setattr(OpenLedger, "commit", no_turns)
    answer = within.api.pay(payment("gateway-error@sandbox"))
    assert (answer.status, answer.document["status"]) == (202, "PENDING_VERIFICATION")
    assert within.api.charges() == []


def test_reads_without_a_ledger_are_503_and_say_when_to_come_again(
    within: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        await asyncio.sleep(0)
        raise LedgerUnavailable("the ledger could not be read", written=False)

    monkeypatch.setattr(OpenLedger, "read", gone)
    for target in ("/payments", f"/payments?ref={new_key()}", "/gateways", "/retry-policy/m_001"):
        refused = within.api.get(target)
        assert refused.refusal == (503, "LEDGER_UNAVAILABLE")
        assert refused.headers["retry-after"] == "1"


async def _open_and_vanish(deps: Dependencies, body: dict[str, Any], key: str) -> str:
    """Announce an attempt an hour ago, as a process does that dies right after."""
    request = msgspec.convert(body, PaymentRequest)
    long_ago = deps.clock.now() - timedelta(hours=1)
    payment_id = uuid7(long_ago, deps.rng)
    snapshot = deps.snapshot()
    plan = make_plan(make_context(request, long_ago, snapshot.banks), snapshot, seed_of(payment_id), long_ago)
    first = Announced(1, "hdfc", long_ago, timedelta(seconds=1))
    fingerprint = digest(request, deps.ledger_id)
    assert await deps.ledger.commit(OPEN, opening(payment_id, key, fingerprint, request, plan, first, long_ago))
    return payment_id


def test_after_its_lease_a_payment_nobody_ended_is_shown_as_under_verification(within: Inside) -> None:
    """By replay, by GET and in lists alike, before any worker has looked at it."""
    key, api, body = new_key(), within.api, payment()
    payment_id = within.within(_open_and_vanish(within.runtime, body, key))
    replayed = api.pay(body, key=key)
    assert (replayed.status, replayed.headers["idempotent-replayed"]) == (202, "true")
    assert replayed.document["status"] == "PENDING_VERIFICATION"
    assert api.get(f"/payments/{payment_id}").document == replayed.document
    assert api.get("/payments?status=PENDING_VERIFICATION").document["items"] == [replayed.document]
    assert api.get("/payments?status=PROCESSING").document["items"] == []
    assert api.get(f"/payments/{payment_id}/attempts").document["final_status"] == "PENDING_VERIFICATION"
    assert api.get(f"/payments/{payment_id}/status-verification").document["state"] == "scheduled"
    assert api.charges() == []


def test_a_draining_server_takes_no_payment_and_says_so(within: Inside) -> None:
    within.app.ctx.draining = True
    refused = within.api.pay()
    assert refused.refusal == (503, "DRAINING")
    assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
    ready = within.api.get("/ops/readiness")
    assert (ready.status, ready.document["status"]) == (503, "failed")
    assert ready.document["checks"][-1]["name"] == "drain"
    assert within.api.get("/ops/liveness").status == 200
    assert _is_untaken(within.api)
