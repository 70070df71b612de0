"""The scoring configuration is read whole, replaced whole, and holds for the next decision under its new version."""

from typing import Any

import msgspec
import pytest

from pgw.core.ledger.configuration import SCORING, changes_since
from pgw.core.routing.score import SEED_SCORING
from tests.server.serving import Inside, Served
from tests.server.wire import ADMIN, Answer, Api

Document = dict[str, Any]

SEED: Document = msgspec.to_builtins(SEED_SCORING)


def _put(api: Api, body: object, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.call("PUT", "/scoring/config", body, {**ADMIN, **named})


def _weights(**changed: float) -> Document:
    return {**SEED, "weights": {**SEED["weights"], **changed}}


def test_a_new_ledger_has_the_contracts_weights(server: Served) -> None:
    seen = server.api.get("/scoring/config")
    assert seen.document == msgspec.json.decode(msgspec.json.encode(SEED_SCORING))
    assert seen.headers["etag"] == '"1"'


def test_what_is_put_holds_for_the_next_decision_under_a_new_version(within: Inside) -> None:
    """Affinity alone decides: icici, which comes second otherwise, is sent the payment."""
    api = within.api
    before = api.get("/scoring/config").headers["etag"]
    only = dict.fromkeys(SEED["weights"], 0.0) | {"method_affinity": 1.0}
    table = {"icici": {"UPI": 1.0}, "not-yet-there": {"CARD": 0.1}}
    wanted = {**SEED, "weights": only, "method_affinity": table, "panic": "least_bad"}
    put = _put(api, wanted)
    assert (put.status, put.document) == (200, msgspec.json.decode(msgspec.json.encode(wanted)))
    assert put.headers["etag"] != before
    again = api.get("/scoring/config")
    assert (again.document, again.headers["etag"]) == (put.document, put.headers["etag"])
    paid = api.pay().document
    assert paid["gateway_used"] == "icici"
    decision = api.get(f"/payments/{paid['payment_id']}/routing-decision?recompute=true").document
    assert decision["config_version"] == int(put.headers["etag"].strip('"'))
    assert decision["recomputed"]["identical"] is True


def test_if_match_lets_only_the_version_that_was_read_change(within: Inside) -> None:
    seen = within.api.get("/scoring/config").headers["etag"]
    assert _put(within.api, SEED, If_Match=seen).status == 200
    assert _put(within.api, SEED, If_Match=seen).refusal == (412, "PRECONDITION_FAILED")
    assert _put(within.api, SEED, If_Match="x").refusal == (412, "PRECONDITION_FAILED")
    assert _put(within.api, SEED, If_Match="*").status == 200


def test_who_changed_it_is_kept(within: Inside) -> None:
    assert _put(within.api, SEED, X_Actor="jane").status == 200
    newest = within.within(within.runtime.ledger.read(changes_since, 0))[-1]
    assert (newest.subject, newest.actor, newest.reason) == (SCORING, "jane", "set scoring configuration")


@pytest.mark.parametrize("error", [0.0, 9e-10, -9e-10])
def test_weights_that_add_up_to_one_but_for_rounding_are_taken(within: Inside, error: float) -> None:
    assert _put(within.api, _weights(success=0.35 + error)).status == 200


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (_weights(success=0.35 + 2e-9), ["/weights"]),
        (_weights(success=0.36), ["/weights"]),
        (_weights(success=-0.05, latency=0.65), ["/weights/success"]),
        (_weights(success=1.5), ["/weights/success"]),
        (_weights(cost=0.0), ["/weights/cost"]),
        ({**SEED, "weights": {"success": 1.0}}, ["/weights/latency"]),
        ({name: value for name, value in SEED.items() if name != "weights"}, ["/weights"]),
        ({**SEED, "weight": {}}, ["/weight"]),
        ({**SEED, "panic": "open"}, ["/panic"]),
        ({**SEED, "breaker": {"min_calls": 0}}, ["/breaker/min_calls"]),
        ({**SEED, "breaker": {"open_s": 60, "max_open_s": 30}}, ["/breaker/max_open_s"]),
        ({**SEED, "method_affinity": {"hdfc": {"upi": 1.0}}}, ["/method_affinity"]),
        ({**SEED, "amount_fit": {"hdfc": {"lt_1000": 1.0}}}, ["/amount_fit"]),
        ({**SEED, "time": {"hdfc": [{"hours": [24], "value": 1.0}]}}, ["/time"]),
        ([], [""]),
    ],
    ids=str,
)
def test_a_configuration_that_breaks_a_rule_changes_nothing(server: Served, body: object, pointers: list[str]) -> None:
    refused = _put(server.api, body)
    assert refused.refusal == (400, "INVALID_REQUEST")
    assert [each[: len(pointer)] for each, pointer in zip(refused.pointers, pointers, strict=True)] == pointers
    assert server.api.get("/scoring/config").headers["etag"] == '"1"'
