"""GET /metrics tells unknown money and violated invariants, the same from any server, to whoever may read it."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine, update

from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.writer import LedgerUnavailable
from pgw.core.ledger.tables import payments
from pgw.core.payment.payment import Status
from pgw.server.routes import prometheus
from tests.server.serving import Inside, Served, inside
from tests.server.wire import ADMIN, Api, eventually, payment
from tests.services import fresh_database

OWN_KEY = "a key of one's own and long enough"
SERIES_AT_MOST = 100
NEVER_LABELS = {"payment", "payment_id", "customer", "customer_id", "merchant", "merchant_id"}

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def _scraped(api: Api, **headers: str) -> Series:
    answer = api.call("GET", "/metrics", headers=headers)
    assert answer.status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.document)
        for sample in family.samples
    }


def _of(series: Series, name: str, **labels: str) -> float | None:
    return series.get((name, frozenset(labels.items())))


@pytest.fixture
def each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look anew at each scrape."""
    monkeypatch.setattr(prometheus, "FRESH_S", 0.0)


def test_a_new_server_tells_every_series_it_will_ever_tell(either: Served) -> None:
    """Counters begin at zero, so that their first rise is one; nobody's payment, customer or merchant is a label."""
    series = _scraped(either.api)
    assert _of(series, "pgw_ledger_up") == 1
    for number in range(1, 10):
        assert _of(series, "pgw_invariant_violations_total", invariant=f"I{number}") == 0
        assert _of(series, "pgw_invariant_violations_open", invariant=f"I{number}") == 0
    for state in ("unknown", "review", "reversing", "stuck"):
        assert _of(series, "pgw_money_at_risk_minor", currency="INR", state=state) is not None
    assert {status for name, labels in series for _, status in labels if name == "pgw_payments_open"} == {
        "PROCESSING",
        "REQUIRES_ACTION",
        "PENDING_VERIFICATION",
        "MANUAL_REVIEW",
    }
    beat = _of(series, "pgw_worker_heartbeat_timestamp_seconds", role="serve")
    assert beat == pytest.approx(time.time(), abs=60)
    assert len(series) < SERIES_AT_MOST
    assert not {label for _, labels in series for label, _ in labels} & NEVER_LABELS


def test_unknown_money_is_told_with_its_age(within: Inside, each_time: None) -> None:
    before = _scraped(within.api)
    assert within.api.pay(payment("timeout@sandbox")).status == 202
    after = _scraped(within.api)
    assert [_of(each, "pgw_verification_pending") for each in (before, after)] == [0, 1]
    assert [_of(each, "pgw_payments_open", status="PENDING_VERIFICATION") for each in (before, after)] == [0, 1]
    assert [_of(each, "pgw_money_at_risk_minor", currency="INR", state="unknown") for each in (before, after)] == [
        0,
        1000,
    ]
    assert _of(before, "pgw_verification_oldest_seconds") == 0
    assert (_of(after, "pgw_verification_oldest_seconds") or 0) > 0
    assert (_of(after, "pgw_outbox_lag_seconds") or 0) > 0


def test_a_violation_raises_the_counter_degrades_readiness_and_goes_when_it_is_put_right(
    within: Inside, each_time: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A hand turns a SUCCESS into a FAILURE: the money of an acknowledged failure would be kept."""
    payment_id = within.api.pay().document["payment_id"]

    def look() -> tuple[float | None, float | None, str]:
        series = _scraped(within.api)
        told = [_of(series, f"pgw_invariant_violations_{kind}", invariant="I3") for kind in ("total", "open")]
        checks = within.api.get("/ops/readiness").document["checks"]
        return told[0], told[1], next(each["status"] for each in checks if each["name"] == "invariants")

    def change(status: Status) -> None:
        engine = create_engine(within.runtime.settings.database)
        with engine.begin() as connection:
            connection.execute(update(payments).where(payments.c.payment_id == payment_id).values(status=status))
        engine.dispose()
        within.within(within.runtime.invariant_check.step())

    within.within(within.runtime.invariant_check.step())
    assert look() == (0, 0, "ok")
    change(Status.FAILURE)
    total, still, status = look()
    assert (total, still, status) == (2, 2, "degraded")
    alarms = [each.getMessage() for each in caplog.records if each.levelname == "CRITICAL"]
    assert [each for each in alarms if each.startswith(f"I3 violated by payment {payment_id}")] != []
    within.within(within.runtime.invariant_check.step())
    assert look() == (2, 2, "degraded")
    change(Status.SUCCESS)
    assert look() == (2, 0, "ok")
    assert len(alarms) == len([each for each in caplog.records if each.levelname == "CRITICAL"])


def test_what_one_server_found_every_server_tells_also_after_a_restart(tmp_path: Path, postgres_url: str) -> None:
    """One server checks; the other, and a third that starts later, read it from the ledger."""
    with ExitStack() as stack:
        database = stack.enter_context(fresh_database(postgres_url))
        for name in ("one", "two", "three"):
            (tmp_path / name).mkdir()
        with inside(tmp_path / "one", {"DATABASE_URL": database}) as first:
            first.api.set_gateways(is_enabled=True)
            first.api.pay()
            engine = create_engine(first.runtime.settings.database)
            with engine.begin() as connection:
                connection.execute(update(payments).values(status=Status.FAILURE))
            engine.dispose()
            assert first.within(first.runtime.invariant_check.step()) > 0
            with inside(tmp_path / "two", {"DATABASE_URL": database}) as second:
                told = [_violations(_scraped(each.api)) for each in (first, second)]
        with inside(tmp_path / "three", {"DATABASE_URL": database}) as third:
            told.append(_violations(_scraped(third.api)))
            checks = third.api.get("/ops/readiness").document["checks"]
    assert [told[0]] * 3 == told
    assert sum(told[0].values()) > 0
    assert next(each for each in checks if each["name"] == "invariants")["status"] == "degraded"


def _violations(series: Series) -> Series:
    return {place: value for place, value in series.items() if place[0].startswith("pgw_invariant_violations")}


def test_a_serving_process_checks_by_itself(server: Served) -> None:
    """`pgw serve` runs the check; readiness says how often it looked."""
    server.api.pay()

    def looked() -> str | None:
        checks = server.api.get("/ops/readiness").document["checks"]
        told: str = next(each["detail"] for each in checks if each["name"] == "invariants")
        return told if "looks at payments here" in told else None

    assert eventually(looked).startswith("none violated")


def test_without_its_ledger_it_says_so_and_tells_what_it_knows_itself(
    within: Inside, each_time: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No stale figure, and no failed scrape either: the process lives."""

    async def gone(*_: object) -> None:
        raise LedgerUnavailable("the ledger could not be read (OperationalError)", written=False)

    monkeypatch.setattr(OpenLedger, "read", gone)
    series = _scraped(within.api)
    assert _of(series, "pgw_ledger_up") == 0
    assert {name for name, _ in series} == {"pgw_ledger_up", "pgw_worker_heartbeat_timestamp_seconds"}


def test_many_scrapes_are_one_look(within: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "FRESH_S", 3600.0)
    looks: list[object] = []
    monkeypatch.setattr(prometheus, "gauges", lambda *given: looks.append(given))
    texts = {within.api.get("/metrics").document for _ in range(5)}
    assert (len(texts), len(looks)) == (1, 1)


@pytest.mark.parametrize(("variables", "expected"), [({}, 401), ({"PGW_METRICS_OPEN": "1"}, 200)])
def test_where_others_can_reach_it_the_admin_key_opens_it_or_a_setting(
    tmp_path: Path, variables: dict[str, str], expected: int
) -> None:
    own = {"INTERNAL_API_KEY": OWN_KEY, "BIND_ADDR": "0.0.0.0:0", **variables}
    with inside(tmp_path / "home", own) as running:
        assert running.api.get("/metrics").status == expected
        assert running.api.get("/metrics", X_Internal_Api_Key=OWN_KEY).status == 200
        refused = running.api.call("GET", "/metrics", headers=ADMIN)
        assert refused.status == (403 if expected == 401 else 200)


def test_the_text_is_what_prometheus_reads(server: Served) -> None:
    answer = server.api.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE pgw_invariant_violations_total counter\n" in answer.document
    assert "# TYPE pgw_money_at_risk_minor gauge\n" in answer.document
