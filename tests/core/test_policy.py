"""A merchant's policy bounds the attempts; it can never ask for a retry of an unknown outcome."""

import msgspec
import pytest
from hypothesis import given

from pgw.core.routing.policy import RetryPolicy
from tests.core.drawn import policies


def test_a_merchant_nobody_configured_has_the_policy_of_the_contract() -> None:
    assert msgspec.to_builtins(RetryPolicy(merchant_id="m_001")) == {
        "merchant_id": "m_001",
        "max_attempts": 3,
        "latency_budget_ms": 10_000,
        "retry_on_timeout": False,
        "enabled": True,
    }


@given(policies)
def test_a_disabled_policy_means_one_attempt_and_an_enabled_one_its_maximum(policy: RetryPolicy) -> None:
    assert policy.attempts_allowed == (policy.max_attempts if policy.enabled else 1)


@given(policies)
def test_retry_on_timeout_is_kept_and_allows_no_attempt_more(policy: RetryPolicy) -> None:
    asked = msgspec.structs.replace(policy, retry_on_timeout=True)
    kept = msgspec.json.decode(msgspec.json.encode(asked), type=RetryPolicy)
    assert (kept.retry_on_timeout, kept.attempts_allowed) == (True, policy.attempts_allowed)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", 11),
        ("latency_budget_ms", 99),
        ("latency_budget_ms", 60_001),
        ("merchant_id", ""),
        ("merchant_id", "x" * 65),
        ("enabled", "yes"),
        ("surprise", 1),
    ],
)
def test_a_policy_out_of_bounds_or_with_an_unknown_member_is_refused(member: str, value: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"merchant_id": "m_001", member: value}, RetryPolicy)


@pytest.mark.parametrize(
    ("member", "value"),
    [("max_attempts", 1), ("max_attempts", 10), ("latency_budget_ms", 100), ("latency_budget_ms", 60_000)],
)
def test_the_bounds_themselves_are_taken(member: str, value: int) -> None:
    policy = msgspec.convert({"merchant_id": "m_001", member: value}, RetryPolicy)
    assert getattr(policy, member) == value
