"""An operator can keep new payments out until a set time; what was begun goes on, and a key keeps its payment."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pgw.core.breakers.override import Pause
from pgw.core.ledger.configuration import PAUSE, changes_since, head
from tests.server.serving import Inside, Served, inside
from tests.server.wire import ADMIN, Answer, Api, new_key, payment

FIRST = "first-key-0123456789"
PRODUCTION = {"PGW_ENV": "production", "BIND_ADDR": "127.0.0.1:3000", "INTERNAL_API_KEY": FIRST}
JANE = {**ADMIN, "X-Actor": "jane"}


def _pause(api: Api, body: object = None, headers: dict[str, str] | None = None) -> Answer:
    return api.call("POST", "/ops/pause", body, JANE if headers is None else headers)


def _resume(api: Api, body: object = None) -> Answer:
    return api.call("POST", "/ops/resume", body, ADMIN)


def _version(running: Inside) -> int:
    return running.within(running.runtime.ledger.read(head))


def _look(api: Api) -> dict[str, Any] | None:
    checks = api.get("/ops/readiness").document["checks"]
    return next((each for each in checks if each["name"] == "pause"), None)


def test_a_pause_keeps_new_payments_out_until_it_is_ended(within: Inside) -> None:
    api = within.api
    paused = _pause(api, {"reason": "INC-4412", "ttl_seconds": 600})
    assert paused.status == 200
    told = paused.document
    assert (told["paused"], told["reason"], told["actor"]) == (True, "INC-4412", "jane")
    span = datetime.fromisoformat(told["expires_at"]) - datetime.fromisoformat(told["paused_at"])
    assert span == timedelta(minutes=10)
    assert told["seen_by"]["processes"] == told["seen_by"]["of"]
    refused = api.pay()
    assert refused.refusal == (503, "PAUSED")
    assert int(refused.headers["retry-after"]) > 0
    resumed = _resume(api)
    assert (resumed.status, resumed.document["paused"]) == (200, False)
    assert resumed.document["expires_at"] < told["expires_at"]
    assert api.pay().status == 201


def test_while_paused_a_key_that_has_a_payment_is_answered_with_it(within: Inside) -> None:
    key, body = new_key(), payment()
    first = within.api.pay(body, key)
    assert _pause(within.api).status == 200
    again = within.api.pay(body, key)
    assert (again.status, again.document) == (201, first.document)
    assert again.headers["idempotent-replayed"] == "true"
    assert within.api.get(f"/payments/{first.document['payment_id']}").status == 200
    assert len(within.api.charges()) == 1


def test_readiness_says_that_payments_are_paused_but_not_by_whom(within: Inside) -> None:
    """Anybody may ask it."""
    assert _look(within.api) is None
    until = _pause(within.api, {"reason": "INC-4412"}).document["expires_at"]
    assert within.api.get("/ops/readiness").status == 200
    found = _look(within.api)
    assert found is not None
    assert found["status"] == "degraded"
    assert until[:19] in found["detail"]
    assert "INC-4412" not in found["detail"]
    assert _resume(within.api).status == 200
    assert _look(within.api) is None


def test_without_a_body_a_pause_lasts_an_hour_and_again_renews_it(within: Inside) -> None:
    first = _pause(within.api).document
    assert first["reason"] == "unspecified"
    span = datetime.fromisoformat(first["expires_at"]) - datetime.fromisoformat(first["paused_at"])
    assert span == timedelta(hours=1)
    again = _pause(within.api, {"ttl_seconds": 86_400}).document
    assert again["expires_at"] > first["expires_at"]


def test_whoever_is_not_paused_is_resumed_already(within: Inside) -> None:
    """Nothing is written then, neither for one that never was paused, nor for one resumed twice."""
    before = _version(within)
    never = _resume(within.api)
    assert (never.status, never.document["paused"], never.document["actor"]) == (200, False, None)
    assert _version(within) == before
    assert _pause(within.api).status == 200
    first, second = _resume(within.api), _resume(within.api, {"reason": "again"})
    assert {**first.document, "seen_by": None} == {**second.document, "seen_by": None}
    assert _version(within) == before + 2


def test_a_pause_that_has_run_out_keeps_nobody_out(within: Inside) -> None:
    now = within.runtime.clock.now()
    over = Pause(reason="r", actor="a", paused_at=now - timedelta(hours=1), expires_at=now)
    within.within(within.runtime.snapshots.configure(PAUSE, lambda _: over, "a", "r"))
    assert within.api.pay().status == 201
    assert _look(within.api) is None
    assert _resume(within.api).document["paused"] is False


def test_who_paused_and_who_resumed_is_kept(within: Inside) -> None:
    _pause(within.api, {"reason": "INC-4412"})
    paused = within.within(within.runtime.ledger.read(changes_since, 0))[-1]
    assert (paused.subject, paused.actor, paused.reason) == (PAUSE, "jane", "INC-4412")
    within.api.call("POST", "/ops/resume", {"reason": "mended"}, {**ADMIN, "X-Actor": "ravi"})
    resumed = within.within(within.runtime.ledger.read(changes_since, 0))[-1]
    assert (resumed.subject, resumed.actor, resumed.reason) == (PAUSE, "ravi", "mended")


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"ttl_seconds": 59}, ["/ttl_seconds"]),
        ({"ttl_seconds": 86_401}, ["/ttl_seconds"]),
        ({"ttl_seconds": "600"}, ["/ttl_seconds"]),
        ({"ttl_seconds": None}, ["/ttl_seconds"]),
        ({"reason": ""}, ["/reason"]),
        ({"reason": " "}, ["/reason"]),
        ({"reason": "a\nb"}, ["/reason"]),
        ({"reason": "x" * 256}, ["/reason"]),
        ({"until": "tomorrow"}, ["/until"]),
        ([], [""]),
    ],
    ids=str,
)
def test_an_order_that_breaks_a_rule_pauses_nothing(server: Served, body: object, pointers: list[str]) -> None:
    refused = _pause(server.api, body)
    assert (refused.status, refused.pointers) == (400, pointers)
    assert _look(server.api) is None


def test_card_data_is_no_reason(server: Served) -> None:
    refused = _pause(server.api, {"reason": "card 4111111111111111 fails"})
    assert refused.refusal == (400, "CARD_DATA_NOT_ACCEPTED")


def test_production_wants_a_reason_to_pause_and_none_to_resume(tmp_path: Path) -> None:
    with inside(tmp_path, PRODUCTION) as running:
        key = {"X-Internal-Api-Key": FIRST}
        before = _version(running)
        assert _pause(running.api, {}, key).refusal == (422, "REASON_REQUIRED")
        assert _pause(running.api, None, key).refusal == (422, "REASON_REQUIRED")
        assert _version(running) == before
        assert _pause(running.api, {"reason": "INC-4412"}, key).status == 200
        assert running.api.call("POST", "/ops/resume", None, key).document["paused"] is False
