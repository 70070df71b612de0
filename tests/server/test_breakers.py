"""An operator sees every breaker and forces one until a set time: previewed, written once, in force at once."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pgw.assembly import Runtime
from pgw.core.breakers.breaker import Breaker, State
from pgw.core.breakers.override import Override
from pgw.core.flow.metrics.windows import MetricWindows
from pgw.core.ids import uuid7
from pgw.core.ledger.breaker_history import TRANSITION, Transition, transition_write
from pgw.core.ledger.configuration import breaker_subject, changes_since, head
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ports import Heartbeat
from tests.server.serving import Inside, Served, inside, served
from tests.server.wire import ADMIN, Answer, Api, eventually, payment
from tests.services import fresh_database

Document = dict[str, Any]

FIRST = "first-key-0123456789"
PRODUCTION = {"PGW_ENV": "production", "BIND_ADDR": "127.0.0.1:3000", "INTERNAL_API_KEY": FIRST}
JANE = {**ADMIN, "X-Actor": "jane"}
OPEN, CLOSE, CLEAR = "force-open", "force-close", "clear"


def _order(
    api: Api, action: str, breaker: str = "hdfc/UPI", body: object = None, headers: dict[str, str] | None = None
) -> Answer:
    return api.call("POST", f"/circuit-breaker/{action}/{breaker}", body, JANE if headers is None else headers)


def _breaker(api: Api, gateway_id: str = "hdfc", method: str = "UPI") -> Document:
    items = api.get("/circuit-breaker/status").document["items"]
    (found,) = [each for each in items if (each["gateway_id"], each["payment_method"]) == (gateway_id, method)]
    return dict(found)


def _version(running: Inside) -> int:
    return running.within(running.runtime.ledger.read(head))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _excluded(api: Api, payment_id: str) -> dict[str, str]:
    decision = api.get(f"/payments/{payment_id}/routing-decision").document
    return {each["gateway_id"]: each["reason"] for each in decision["excluded"]}


@pytest.fixture
def production(tmp_path: Path) -> Iterator[Inside]:
    """Run the app as in production, whose answers say so."""
    with inside(tmp_path / "production", PRODUCTION) as running:
        yield running


KEY = {"X-Internal-Api-Key": FIRST}


def test_every_breaker_there_is_stands_closed_at_first(within: Inside) -> None:
    seen = within.api.get("/circuit-breaker/status").document
    assert seen["next"] is None
    assert [(each["gateway_id"], each["payment_method"]) for each in seen["items"]] == [
        (name, method) for name in ("razorpay", "hdfc", "icici", "axis") for method in ("UPI", "CARD", "NETBANKING")
    ]
    assert _breaker(within.api) == {
        "gateway_id": "hdfc",
        "payment_method": "UPI",
        "state": "CLOSED",
        "automatic_state": "CLOSED",
        "cause": None,
        "since": None,
        "until": None,
        "epoch": 0,
        "probes": None,
        "admission": 1.0,
        "calls_2m": 0,
        "failure_rate_2m": None,
        "timeout_rate_5m": None,
        "consecutive_failures": 0,
        "in_flight": 0,
        "override": None,
        "seen_by": _breaker(within.api)["seen_by"],
        "note": None,
    }
    assert _breaker(within.api, "razorpay")["note"].startswith("takes no payments: RAZORPAY_KEY_ID")


def test_rates_are_of_all_that_was_counted_and_the_run_is_of_this_process(within: Inside) -> None:
    assert within.api.pay().document["gateway_used"] == "hdfc"
    assert within.api.pay(payment("gateway-error@sandbox")).document["gateway_used"] == "icici"
    within.within(within.app.ctx.line.drain())
    within.within(within.runtime.windows.refresh())
    seen = _breaker(within.api)
    assert (seen["calls_2m"], seen["failure_rate_2m"], seen["timeout_rate_5m"]) == (2, 0.5, 0.0)
    assert seen["consecutive_failures"] == 1


def test_a_breaker_forced_open_is_left_by_the_next_payment(within: Inside) -> None:
    forced = _order(within.api, OPEN)
    assert forced.status == 200
    told = forced.document
    assert (told["gateway_id"], told["payment_method"], told["state"]) == ("hdfc", "UPI", "FORCED_OPEN")
    assert (told["reason"], told["actor"]) == ("unspecified", "jane")
    paid = within.api.pay().document
    assert paid["gateway_used"] == "icici"
    assert _excluded(within.api, paid["payment_id"])["hdfc"] == "FORCED_OPEN"
    seen = _breaker(within.api)
    assert (seen["state"], seen["automatic_state"], seen["admission"]) == ("FORCED_OPEN", "CLOSED", 0.0)
    assert (seen["override"]["actor"], seen["until"]) == ("jane", told["expires_at"])
    assert seen["override"]["expires_at"] == told["expires_at"]
    assert seen["since"] == seen["override"]["forced_at"]
    assert _moment(told["expires_at"]) - _moment(seen["since"]) == timedelta(hours=1)
    assert _breaker(within.api, "hdfc", "CARD")["state"] == "CLOSED"


def test_reason_and_end_are_kept_with_the_order_and_the_same_again_renews_it(within: Inside) -> None:
    first = _order(within.api, OPEN, body={"reason": "INC-4412", "ttl_seconds": 60}).document
    again = _order(within.api, OPEN, body={"reason": "INC-4412 still", "ttl_seconds": 86_400}).document
    assert (first["reason"], again["reason"]) == ("INC-4412", "INC-4412 still")
    assert _moment(again["expires_at"]) - _moment(first["expires_at"]) > timedelta(hours=23)
    assert "FORCED_OPEN by jane (INC-4412)" in again["preview"]["warnings"][0]
    newest = within.within(within.runtime.ledger.read(changes_since, 0))[-1]
    assert (newest.subject, newest.actor, newest.reason) == (breaker_subject("hdfc", "UPI"), "jane", "INC-4412 still")


def test_a_cleared_force_open_is_probed_and_a_cleared_force_close_is_automatic(within: Inside) -> None:
    for action, after in ((OPEN, "HALF_OPEN"), (CLOSE, "CLOSED")):
        breaker = "hdfc/UPI" if action == OPEN else "icici/UPI"
        assert _order(within.api, action, breaker).status == 200
        cleared = _order(within.api, CLEAR, breaker, {"reason": "mended"}, {**ADMIN, "X-Actor": "ravi"})
        assert cleared.status == 200
        told = cleared.document
        assert (told["state"], told["reason"], told["actor"], told["expires_at"]) == (after, "mended", "ravi", None)
        assert _breaker(within.api, breaker[:-4])["override"] is None
    assert _breaker(within.api)["note"] == "was forced open until lately: it is probed before payments come back"


def test_a_cleared_gateway_is_taken_back_once_its_probes_succeeded(tmp_path: Path) -> None:
    """And its history tells so, beside the order's. Affinity alone decides: who is never first is never probed."""
    with served(tmp_path) as running:
        api = running.api
        scoring = api.get("/scoring/config").document
        scoring["weights"] = dict.fromkeys(scoring["weights"], 0.0) | {"method_affinity": 1.0}
        scoring["method_affinity"] = {"hdfc": {"UPI": 1.0}, "icici": {"UPI": 0.5}, "axis": {"UPI": 0.1}}
        assert api.call("PUT", "/scoring/config", scoring, ADMIN).status == 200
        assert _order(api, OPEN).status == 200
        assert api.pay().document["gateway_used"] == "icici"
        assert _order(api, CLEAR).document["state"] == "HALF_OPEN"

        def taken_back() -> Document | None:
            assert api.pay().status == 201
            seen = _breaker(api)
            return seen if (seen["state"], seen["automatic_state"]) == ("CLOSED", "CLOSED") else None

        seen = eventually(taken_back)
        assert (seen["cause"], seen["note"]) == ("probes_passed", None)
        assert 0.1 <= seen["admission"] <= 1.0
        transitions = eventually(lambda: _transitions(api) if len(_transitions(api)) > 1 else None)
        assert [each["cause"] for each in transitions] == ["probes_passed", "override_ended"]


def _transitions(api: Api) -> list[Document]:
    items: list[Document] = api.get("/circuit-breaker/history").document["items"]
    return [each for each in items if each["kind"] == "transition"]


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_an_order_holds_in_every_process_before_it_is_answered(
    tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    """Two servers on one ledger and one Redis: the one that was not asked leaves the gateway, too."""
    with ExitStack() as stack:
        stores = {"DATABASE_URL": stack.enter_context(fresh_database(postgres_url)), "REDIS_URL": redis_url}
        one, other = (stack.enter_context(served(_folder(tmp_path / name), **stores)) for name in ("one", "other"))
        eventually(lambda: _breaker(one.api)["seen_by"]["of"] == 2 or None)

        def heard() -> Document | None:
            told: Document = _order(one.api, OPEN).document["seen_by"]
            return told if told["processes"] == 2 else None

        # An answer waits a second at the most, in which a busy machine may do nothing.
        assert eventually(heard)["of"] == 2
        assert _breaker(other.api)["override"]["actor"] == "jane"
        assert other.api.pay().document["gateway_used"] == "icici"


def test_clearing_what_is_not_forced_is_already_so_and_writes_nothing(within: Inside) -> None:
    before = _version(within)
    never = _order(within.api, CLEAR)
    assert (never.status, never.document["state"], never.document["actor"]) == (200, "CLOSED", None)
    assert _version(within) == before
    assert _order(within.api, OPEN).status == 200
    assert _order(within.api, CLEAR).document["actor"] == "jane"
    assert _order(within.api, CLEAR).document["actor"] is None
    assert _version(within) == before + 2


def test_an_override_that_has_run_out_holds_nothing(within: Inside) -> None:
    now = within.runtime.clock.now()
    over = Override(
        gateway_id="hdfc",
        payment_method="UPI",
        state=State.FORCED_CLOSED,
        reason="r",
        actor="a",
        forced_at=now - timedelta(hours=1),
        expires_at=now,
    )
    within.within(within.runtime.snapshots.configure(breaker_subject("hdfc", "UPI"), lambda _: over, "a", "r"))
    seen = _breaker(within.api)
    assert (seen["state"], seen["override"]) == ("CLOSED", None)
    before = _version(within)
    assert _order(within.api, CLEAR).document["actor"] is None
    assert _version(within) == before


@pytest.mark.parametrize("breaker", ["hdfc/upi", "hdfc/Upi", "hdfc/%55PI"])
def test_a_method_may_come_in_any_case(within: Inside, breaker: str) -> None:
    assert _order(within.api, OPEN, breaker).document["payment_method"] == "UPI"
    assert _breaker(within.api)["state"] == "FORCED_OPEN"


def test_a_disabled_gateway_may_be_forced(within: Inside) -> None:
    within.api.set_gateways(is_enabled=False)
    told = _order(within.api, OPEN).document
    assert told["state"] == "FORCED_OPEN"
    assert "hdfc takes no UPI payments now, whatever its breaker says" in told["preview"]["warnings"]


def test_what_was_forced_can_be_cleared_though_its_method_is_gone(within: Inside) -> None:
    assert _order(within.api, OPEN).status == 200
    card = {"supported_methods": ["CARD"]}
    assert within.api.call("PATCH", "/gateways/hdfc", card, ADMIN).status == 200
    assert _breaker(within.api)["state"] == "FORCED_OPEN"
    assert _order(within.api, CLEAR).document["actor"] == "jane"
    assert _order(within.api, OPEN).refusal == (422, "METHOD_NOT_SUPPORTED")


@pytest.mark.parametrize("action", [OPEN, CLOSE, CLEAR])
@pytest.mark.parametrize(
    ("breaker", "body", "refusal", "told"),
    [
        ("razorpy/UPI", None, (404, "NOT_FOUND"), "did you mean 'razorpay'?"),
        ("HDFC/UPI", None, (404, "NOT_FOUND"), "did you mean 'hdfc'?"),
        ("nobody/UPI", None, (404, "NOT_FOUND"), "GET /gateways lists them"),
        ("hdfc%00/UPI", None, (404, "NOT_FOUND"), "hdfc"),
        ("razorpy/WALLET", None, (404, "NOT_FOUND"), "razorpay"),
        ("hdfc/WALLET", None, (422, "METHOD_NOT_SUPPORTED"), "hdfc takes UPI, CARD, NETBANKING"),
        ("hdfc/%E2%82%AC", None, (422, "METHOD_NOT_SUPPORTED"), "hdfc takes UPI, CARD, NETBANKING"),
        ("hdfc/UPI", {"ttl_seconds": 59}, (400, "INVALID_REQUEST"), "/ttl_seconds"),
        ("hdfc/UPI", {"ttl_seconds": 86_401}, (400, "INVALID_REQUEST"), "/ttl_seconds"),
        ("hdfc/UPI", {"ttl_seconds": 60.5}, (400, "INVALID_REQUEST"), "/ttl_seconds"),
        ("hdfc/UPI", {"reason": ""}, (400, "INVALID_REQUEST"), "/reason"),
        ("hdfc/UPI", {"reason": "  "}, (400, "INVALID_REQUEST"), "/reason"),
        ("hdfc/UPI", {"reason": "x" * 256}, (400, "INVALID_REQUEST"), "/reason"),
        ("hdfc/UPI", {"ttl": 60}, (400, "INVALID_REQUEST"), "/ttl"),
        ("hdfc/UPI", b"{", (400, "INVALID_REQUEST"), "JSON"),
        ("hdfc/UPI?dry_run=maybe", None, (400, "INVALID_REQUEST"), "/dry_run"),
        ("hdfc/UPI?dryrun=true", None, (400, "INVALID_REQUEST"), "/dryrun"),
        ("hdfc/UPI", {"reason": "4111 1111 1111 1111"}, (400, "CARD_DATA_NOT_ACCEPTED"), "card"),
    ],
    ids=str,
)
def test_what_is_refused_says_why_and_writes_nothing(
    server: Served, action: str, breaker: str, body: object, refusal: tuple[int, str], told: str
) -> None:
    before = server.api.get("/ops/readiness").document["checks"][0]
    refused = _order(server.api, action, breaker, body)
    assert refused.refusal == refusal
    assert told in refused.document["detail"]
    assert server.api.get("/ops/readiness").document["checks"][0] == before


@pytest.mark.parametrize("action", [OPEN, CLOSE, CLEAR])
def test_a_dry_run_answers_the_preview_alone_and_writes_nothing(within: Inside, action: str) -> None:
    before = _version(within)
    dry = _order(within.api, action, "hdfc/UPI?dry_run=true", {"ttl_seconds": 600})
    assert (dry.status, list(dry.document)) == (200, ["preview"])
    foretold = dry.document["preview"]
    assert (foretold["environment"], foretold["action"]) == ("development", action)
    assert (foretold["gateway_id"], foretold["payment_method"], foretold["window_s"]) == ("hdfc", "UPI", 300)
    assert (foretold["in_flight"], foretold["pending_verification"]) == (0, 0)
    assert (foretold["expires_at"] is None) == (action == CLEAR)
    assert _version(within) == before
    assert _breaker(within.api)["state"] == "CLOSED"


def test_the_preview_tells_the_share_that_moves_and_where(within: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {("hdfc", "HDFC"): 90, ("icici", "ICICI"): 30, ("axis", "AXIS"): 30}
    monkeypatch.setattr(
        MetricWindows, "traffic", lambda _, method, window_s: seen if (method, window_s) == ("UPI", 300) else {}
    )
    foretold = _order(within.api, OPEN).document["preview"]
    assert foretold["share"] == pytest.approx(0.6)
    assert foretold["payments_per_s"] == pytest.approx(0.3)
    assert foretold["moves_to"] == [{"gateway_id": "icici", "share": pytest.approx(0.6)}]
    assert foretold["remaining"] == ["icici", "axis"]
    assert foretold["then"] == "HALF_OPEN"
    back = _order(within.api, CLEAR).document["preview"]
    assert back["moves_to"] == [{"gateway_id": "hdfc", "share": pytest.approx(0.6)}]
    card = _order(within.api, OPEN, "hdfc/CARD").document["preview"]
    assert (card["share"], card["moves_to"]) == (None, [])


def test_the_last_gateway_of_a_method_is_warned_of_and_then_payments_are_refused(within: Inside) -> None:
    for gateway_id in ("hdfc", "icici"):
        assert "no gateway remains" not in str(_order(within.api, OPEN, f"{gateway_id}/UPI").document["preview"])
    last = _order(within.api, OPEN, "axis/UPI").document["preview"]
    assert last["remaining"] == []
    assert last["warnings"][0] == "no gateway remains for UPI: payments will be refused (fail_closed)"
    assert within.api.pay().refusal == (503, "NO_GATEWAY_AVAILABLE")
    assert within.api.charges() == []


def test_the_preview_counts_what_stays_where_it_is(within: Inside) -> None:
    """A call on its way, and one whose outcome nobody knows."""
    assert within.api.pay(payment("timeout@sandbox")).document["status"] == "PENDING_VERIFICATION"
    with within.api.paying(payment("slow@sandbox")) as sent:
        asked = "hdfc/UPI?dry_run=true"
        foretold = eventually(
            lambda: next(
                (each for each in [_order(within.api, OPEN, asked).document["preview"]] if each["in_flight"]), None
            )
        )
        assert (foretold["in_flight"], foretold["pending_verification"]) == (1, 1)
        assert _breaker(within.api)["in_flight"] == 1
        assert sent.answer().status == 201


@pytest.mark.parametrize("action", [OPEN, CLOSE])
def test_production_wants_a_reason_but_previews_without_one(production: Inside, action: str) -> None:
    """And ends an order without one."""
    api, before = production.api, _version(production)
    for body in (None, {}, {"ttl_seconds": 60}):
        assert _order(api, action, "razorpay/UPI", body, KEY).refusal == (422, "REASON_REQUIRED")
    foretold = _order(api, action, "razorpay/UPI?dry_run=true", None, KEY).document["preview"]
    assert foretold["environment"] == "production"
    assert _version(production) == before
    assert _order(api, action, "razorpay/UPI", {"reason": "INC-4412"}, KEY).status == 200
    assert _order(api, CLEAR, "razorpay/UPI", None, KEY).document["reason"] == "unspecified"


def test_status_needs_no_ledger(within: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _order(within.api, OPEN).status == 200

    async def gone(*_: object) -> None:
        raise LedgerUnavailable("the ledger could not be read (OperationalError)", written=False)

    monkeypatch.setattr(OpenLedger, "read", gone)
    assert _breaker(within.api)["state"] == "FORCED_OPEN"
    assert _order(within.api, CLEAR).refusal == (503, "LEDGER_UNAVAILABLE")
    assert within.api.get("/circuit-breaker/history").refusal == (503, "LEDGER_UNAVAILABLE")


def test_an_order_is_answered_when_every_process_knows_of_it(within: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def fleet(runtime: Runtime) -> tuple[Heartbeat, ...]:
        """One that knows at once, and one that has heard at the third look."""
        asked.append(runtime.snapshots.current.config_version)
        versions = (asked[0], asked[0] if len(asked) > 2 else asked[0] - 1)
        return tuple(Heartbeat(process=f"p{n}", role="serve", config_version=v) for n, v in enumerate(versions))

    monkeypatch.setattr(Runtime, "fleet", fleet)
    seen = _order(within.api, OPEN).document["seen_by"]
    assert (seen["processes"], seen["of"], len(asked)) == (2, 2, 3)


def test_a_process_that_does_not_hear_of_an_order_does_not_hold_it_up(
    within: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = Heartbeat(process="p2", role="serve", config_version=0)
    here = Heartbeat(process="p1", role="serve", config_version=10**6)
    monkeypatch.setattr(Runtime, "fleet", lambda _: (here, deaf))
    told = _order(within.api, OPEN)
    assert (told.status, told.document["state"]) == (200, "FORCED_OPEN")
    seen = told.document["seen_by"]
    assert (seen["processes"], seen["of"]) == (1, 2)
    assert seen["waited_ms"] >= 1000
    assert _breaker(within.api)["seen_by"] == {"processes": 1, "of": 2}


def test_two_orders_at_once_are_both_kept(within: Inside) -> None:
    """Neither undoes the other: each is computed from the newest configuration."""
    before = _version(within)
    answers: list[Answer] = []
    orders = [
        threading.Thread(target=lambda name=name: answers.append(_order(within.api, OPEN, f"{name}/UPI")))
        for name in ("hdfc", "icici", "axis")
    ]
    for each in orders:
        each.start()
    for each in orders:
        each.join()
    assert [each.status for each in answers] == [200] * 3
    assert _version(within) == before + 3
    assert {_breaker(within.api, name)["state"] for name in ("hdfc", "icici", "axis")} == {"FORCED_OPEN"}


def _moved(running: Inside, number: int, gateway_id: str = "hdfc") -> None:
    """Write a transition as the breakers do."""
    runtime = running.runtime
    now = runtime.clock.now()
    told = Transition(
        event_id=uuid7(now, runtime.rng),
        key=(gateway_id, "UPI"),
        scope="shared",
        process="p1",
        was=State.CLOSED,
        breaker=Breaker(state=State.OPEN, epoch=number, cause="failure_rate"),
        occurred_at=now,
    )
    running.within(running.runtime.ledger.commit(TRANSITION, transition_write(told)))


def test_history_lists_what_breakers_did_and_what_was_ordered_newest_first(within: Inside) -> None:
    _moved(within, 1)
    forced = _order(within.api, OPEN, body={"reason": "INC-4412"}).document
    _order(within.api, CLEAR, body={"reason": "mended"})
    cleared, ordered, moved = within.api.get("/circuit-breaker/history").document["items"]
    assert (moved["kind"], moved["was"], moved["state"], moved["cause"]) == (
        "transition",
        "CLOSED",
        "OPEN",
        "failure_rate",
    )
    assert (moved["actor"], moved["scope"], moved["epoch"], moved["expires_at"]) == ("p1", "shared", 1, None)
    assert (ordered["kind"], ordered["state"], ordered["cause"], ordered["actor"]) == (
        "override",
        "FORCED_OPEN",
        "INC-4412",
        "jane",
    )
    assert (ordered["expires_at"], ordered["scope"], ordered["epoch"]) == (forced["expires_at"], None, None)
    assert (cleared["was"], cleared["state"], cleared["cause"]) == ("FORCED_OPEN", "HALF_OPEN", "mended")


def test_history_is_read_page_by_page_and_of_one_breaker(within: Inside) -> None:
    for number in range(3):
        _moved(within, number)
        _order(within.api, OPEN)
        _moved(within, number, "icici")
    whole = within.api.get("/circuit-breaker/history").document["items"]
    assert len(whole) == 9
    pages, cursor = [], ""
    for _ in range(9):
        page = within.api.get(f"/circuit-breaker/history?limit=2{cursor}").document
        pages += page["items"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert pages == whole
    one = within.api.get("/circuit-breaker/history?gateway_id=icici&payment_method=upi").document["items"]
    assert [each["gateway_id"] for each in one] == ["icici"] * 3
    assert within.api.get("/circuit-breaker/history?payment_method=CARD").document == {"items": [], "next": None}


@pytest.mark.parametrize(
    ("query", "refusal"),
    [
        ("gateway_id=razorpy", (404, "NOT_FOUND")),
        ("payment_method=WALLET", (422, "METHOD_NOT_SUPPORTED")),
        ("limit=0", (400, "INVALID_REQUEST")),
        ("limit=201", (400, "INVALID_REQUEST")),
        ("cursor=x", (400, "INVALID_REQUEST")),
        ("cursor=override:1@2026-13-01T00:00:00.000000Z", (400, "INVALID_REQUEST")),
        ("cursor=transition:1@2026-01-01T00:00:00.000000Z", (400, "INVALID_REQUEST")),
        ("cursor=override:9999999999999999999@2026-01-01T00:00:00.000000Z", (400, "INVALID_REQUEST")),
        ("since=2026-01-01", (400, "INVALID_REQUEST")),
    ],
)
def test_a_history_nobody_can_give_is_refused(either: Served, query: str, refusal: tuple[int, str]) -> None:
    assert either.api.get(f"/circuit-breaker/history?{query}").refusal == refusal


@pytest.mark.parametrize(
    "cursor",
    [
        "override:999999999999999999@2026-01-01T00:00:00.000000Z",
        "override:0@0001-01-01T00:00:00.000000Z",
        "transition:00000000-0000-7000-8000-000000000000@9999-12-31T23:59:59.999999Z",
    ],
)
def test_a_cursor_of_no_entry_is_a_place_all_the_same(either: Served, cursor: str) -> None:
    assert either.api.get(f"/circuit-breaker/history?cursor={cursor}").status == 200
