"""What operators see and change: gateways, retry policies, the ranking of an imagined payment."""

import pytest

from tests.server.serving import Inside, Served
from tests.server.wire import ADMIN, Answer, Api, new_key, payment

INVALID = (400, "INVALID_REQUEST")


def _gateway(api: Api, gateway_id: str) -> dict[str, object]:
    found: dict[str, object] = next(
        each for each in api.get("/gateways").document["items"] if each["gateway_id"] == gateway_id
    )
    return found


def _sandboxes(api: Api) -> list[str]:
    return [each["gateway_id"] for each in api.get("/gateways").document["items"] if each["is_sandbox"]]


def _patch(api: Api, body: object, gateway_id: str = "hdfc", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return api.call("PATCH", f"/gateways/{gateway_id}", body, {**ADMIN, **named})


def _policy(merchant_id: str, **members: object) -> dict[str, object]:
    return {"merchant_id": merchant_id, **members}


def test_gateways_stand_in_the_order_of_their_priority_with_what_they_take(server: Served) -> None:
    assert server.api.get("/gateways").document["next"] is None
    assert _sandboxes(server.api) == ["hdfc", "icici", "axis"]
    first = _gateway(server.api, "hdfc")
    assert first["supported_methods"] == ["UPI", "CARD", "NETBANKING"]
    assert first["supported_currencies"] == ["INR", "USD", "EUR"]
    assert (first["is_enabled"], first["is_sandbox"], first["disabled_reason"]) == (True, True, None)


def test_a_change_shows_at_once_and_counts_for_the_next_payment(within: Inside) -> None:
    api, before = within.api, _gateway(within.api, "hdfc")
    after = _patch(api, {"is_enabled": False, "priority": 99, "fee_bps": 150}).document
    assert after == {
        **before,
        "is_enabled": False,
        "priority": 99,
        "fee_bps": 150,
        "disabled_reason": "switched off",
        "version": after["version"],
    }
    assert after["version"] > before["version"]
    assert _gateway(api, "hdfc") == after
    assert _sandboxes(api) == ["icici", "axis", "hdfc"]
    assert api.pay().document["gateway_used"] == "icici"


def test_the_time_of_an_attempt_can_be_set_and_given_back(within: Inside) -> None:
    assert _patch(within.api, {"timeout_ms": 50}).document["timeout_ms"] == 50
    answer = within.api.pay(payment("timeout@sandbox"))
    assert answer.document["latency_ms"] < 1000
    assert _patch(within.api, {"timeout_ms": None}).document["timeout_ms"] is None


def test_if_match_lets_only_the_version_that_was_read_change(within: Inside) -> None:
    seen = _gateway(within.api, "hdfc")["version"]
    assert _patch(within.api, {"priority": 21}, If_Match=f'"{seen}"').status == 200
    assert _patch(within.api, {"priority": 22}, If_Match=f'"{seen}"').refusal == (412, "PRECONDITION_FAILED")
    assert _patch(within.api, {"priority": 22}, If_Match=str(seen)).refusal == (412, "PRECONDITION_FAILED")
    assert _gateway(within.api, "hdfc")["priority"] == 21
    assert _patch(within.api, {"priority": 23}, If_Match="*").status == 200


@pytest.mark.parametrize("version", ["", "x", "-1", "1.0", 'W/"1"', "0x1", "9" * 60, "9" * 5000, "\xb2", "1, 2"])
def test_what_is_no_version_matches_none(server: Served, version: str) -> None:
    refused = _patch(server.api, {"priority": 20}, If_Match=version)
    assert refused.refusal == (412, "PRECONDITION_FAILED")


@pytest.mark.parametrize("gateway_id", ["nope", "HDFC", "hdfc%00", "%2e%2e", "hdfc%20", "a" * 3000])
def test_an_unknown_gateway_is_404_whatever_is_asked_of_it(server: Served, gateway_id: str) -> None:
    assert _patch(server.api, {"priority": 1}, gateway_id).refusal == (404, "NOT_FOUND")
    assert _patch(server.api, {"priority": 1}, gateway_id, If_Match="7").refusal == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"priority": 1001}, ["/priority"]),
        ({"priority": -1}, ["/priority"]),
        ({"priority": None}, ["/priority"]),
        ({"priority": 10**30}, ["/priority"]),
        ({"is_enabled": 1}, ["/is_enabled"]),
        ({"is_enabled": None}, ["/is_enabled"]),
        ({"supported_methods": []}, ["/supported_methods"]),
        ({"supported_methods": ["upi"]}, ["/supported_methods/0"]),
        ({"supported_methods": ["UPI", "UPI"]}, ["/supported_methods"]),
        ({"timeout_ms": 49}, ["/timeout_ms"]),
        ({"timeout_ms": 30_001}, ["/timeout_ms"]),
        ({"min_amount_minor": 0}, ["/min_amount_minor"]),
        ({"max_amount_minor": 10**12 + 1}, ["/max_amount_minor"]),
        ({"min_amount_minor": 10, "max_amount_minor": 9}, ["/min_amount_minor"]),
        ({"fee_bps": 10_001}, ["/fee_bps"]),
        ({"fee_fixed_minor": -1}, ["/fee_fixed_minor"]),
        ({"gateway_id": "x"}, ["/gateway_id"]),
        ({"display_name": "x", "fee_bps": 1.5}, ["/display_name", "/fee_bps"]),
        ([], [""]),
    ],
    ids=str,
)
def test_a_change_that_breaks_a_rule_changes_nothing(server: Served, body: object, pointers: list[str]) -> None:
    before = _gateway(server.api, "hdfc")
    refused = _patch(server.api, body)
    assert (refused.refusal, sorted(refused.pointers)) == (INVALID, pointers)
    assert _gateway(server.api, "hdfc") == before


def test_a_merchant_nobody_configured_has_the_default_policy(server: Served) -> None:
    assert server.api.get("/retry-policy/nobody").document == {
        "merchant_id": "nobody",
        "max_attempts": 3,
        "latency_budget_ms": 10_000,
        "retry_on_timeout": False,
        "enabled": True,
        "retry_on_timeout_effective": False,
    }


@pytest.mark.parametrize("in_path", ["m_001", "a%20b", "a+b", "a%2Fb", "%F0%9F%92%B0", "100%25"], ids=str)
def test_a_policy_is_kept_under_its_merchants_name_however_it_is_written(either: Served, in_path: str) -> None:
    merchant = {"a%20b": "a b", "a%2Fb": "a/b", "%F0%9F%92%B0": "\U0001f4b0", "100%25": "100%"}.get(in_path, in_path)
    asked = _policy(merchant, max_attempts=2, latency_budget_ms=500, retry_on_timeout=True, enabled=False)
    answer = either.api.call("PUT", f"/retry-policy/{in_path}", asked, ADMIN)
    assert (answer.status, answer.document) == (200, {**asked, "retry_on_timeout_effective": False})
    assert either.api.get(f"/retry-policy/{in_path}").document == answer.document


def test_a_policy_bounds_the_attempts_of_the_next_payment(within: Inside) -> None:
    merchant = new_key()
    body = payment("gateway-error@sandbox", merchant_id=merchant)
    for policy, expected in (
        (_policy(merchant, max_attempts=1), 1),
        (_policy(merchant, enabled=False), 1),
        (_policy(merchant), 2),
    ):
        assert within.api.call("PUT", f"/retry-policy/{merchant}", policy, ADMIN).status == 200
        assert within.api.pay(body).document["attempts_made"] == expected


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/merchant_id"]),
        (_policy("other"), ["/merchant_id"]),
        (_policy("m_001", max_attempts=0), ["/max_attempts"]),
        (_policy("m_001", max_attempts=11), ["/max_attempts"]),
        (_policy("m_001", latency_budget_ms=99), ["/latency_budget_ms"]),
        (_policy("m_001", latency_budget_ms=60_001), ["/latency_budget_ms"]),
        (_policy("m_001", enabled="yes", retry_on_timeout=0), ["/enabled", "/retry_on_timeout"]),
        (_policy("m_001", retry_on_timeout_effective=True), ["/retry_on_timeout_effective"]),
    ],
    ids=str,
)
def test_a_policy_that_breaks_a_rule_is_refused(server: Served, body: object, pointers: list[str]) -> None:
    refused = server.api.call("PUT", "/retry-policy/m_001", body, ADMIN)
    assert (refused.refusal, sorted(refused.pointers)) == (INVALID, pointers)


@pytest.mark.parametrize("merchant_id", ["%00", "%20", "m" * 65, "%7f", "a%0ab"])
def test_what_is_no_merchants_name_has_no_policy(server: Served, merchant_id: str) -> None:
    assert server.api.get(f"/retry-policy/{merchant_id}").refusal == INVALID


def test_the_ranking_is_that_of_a_payment_and_writes_nothing(within: Inside) -> None:
    bank = within.api.get("/scoring/debug?amount_minor=250000&payment_method=UPI&issuing_bank=icici").document
    assert (bank["input"]["issuing_bank"], bank["input"]["size_band"]) == ("ICICI", "2000_10000")
    assert [each["gateway_id"] for each in bank["ranked"]] == ["icici", "hdfc", "axis"]
    assert set(bank["ranked"][0]["breakdown"]) == {
        "success",
        "latency",
        "method_affinity",
        "bank_affinity",
        "amount_fit",
        "time",
    }
    before = within.api.get("/payments?limit=1").document
    usd = within.api.get("/scoring/debug?amount_minor=1&payment_method=card&currency=USD").document
    assert usd["input"]["payment_method"] == "CARD"
    assert within.api.get("/payments?limit=1").document == before


def test_the_ranking_names_who_is_left_out_and_why(within: Inside) -> None:
    _patch(within.api, {"is_enabled": False}, "hdfc")
    _patch(within.api, {"supported_methods": ["CARD"]}, "icici")
    _patch(within.api, {"max_amount_minor": 99}, "axis")
    found = within.api.get("/scoring/debug?amount_minor=100&payment_method=UPI").document
    assert found["ranked"] == []
    reasons = {each["gateway_id"]: each["reason"] for each in found["excluded"]}
    assert (reasons["hdfc"], reasons["icici"], reasons["axis"]) == ("DISABLED", "METHOD", "AMOUNT")


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ("", ["/amount_minor", "/payment_method"]),
        ("payment_method=UPI", ["/amount_minor"]),
        ("amount_minor=0&payment_method=UPI", ["/amount_minor"]),
        (f"amount_minor={'9' * 30}&payment_method=UPI", ["/amount_minor"]),
        ("amount_minor=1&payment_method=UPI&currency=XXX", ["/currency"]),
        ("amount_minor=1&payment_method=UPI&issuing_bank=%00&merchant_id=%01", ["/issuing_bank", "/merchant_id"]),
        ("amount_minor=1&payment_method=UPI&vpa=a@b", ["/vpa"]),
    ],
)
def test_what_is_no_payment_cannot_be_imagined(server: Served, query: str, pointers: list[str]) -> None:
    refused = server.api.get(f"/scoring/debug?{query}")
    assert (refused.refusal, sorted(refused.pointers)) == (INVALID, pointers)


@pytest.mark.parametrize("method", ["WALLET", "%00", "UPI%20"])
def test_an_unknown_method_is_422(server: Served, method: str) -> None:
    refused = server.api.get(f"/scoring/debug?amount_minor=1&payment_method={method}")
    assert refused.refusal == (422, "METHOD_NOT_SUPPORTED")
