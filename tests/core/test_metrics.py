"""Every call is counted once, where it ended and as it ended; the sums merge, and the quantiles keep their error."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.events import Event
from pgw.core.metrics.counters import (
    MAX_LATENCY_MS,
    NOTHING,
    RELATIVE_ERROR,
    SEPARATOR,
    Counts,
    Figures,
    Increments,
    Latency,
    bucket_of,
    field_of,
    figures_of,
    fold,
    parse_field,
    quantile,
    slice_of,
)
from pgw.core.payment.outcome import AttemptEnd, Blame
from pgw.core.payment.payment import AttemptStatus, Status
from tests.core.told import FAULT, HANGING, SUCCEEDED, attempts, events, put_right, settled, told
from tests.doubles import NOON

CELL = ("hdfc", "UPI", "HDFC")
NOW = slice_of(NOON)

counts = st.dictionaries(
    st.sampled_from(["s:SUCCESS", "s:FAILURE", "b:gateway", "e:X", "l:99", "l:1993"]),
    st.integers(-5, 50).filter(bool),
).map(Counts)
latencies = st.lists(st.integers(0, MAX_LATENCY_MS), min_size=1, max_size=200)
shares = st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]) | st.floats(0.001, 1.0)


def _counters(increments: Increments, slice_: int = NOW) -> dict[str, int]:
    """What a slice counts of CELL, zeros left out."""
    return {parse_field(field)[1]: n for field, n in increments.get(slice_, {}).items() if n}


def _added(parts: Iterable[Increments]) -> dict[tuple[int, str], int]:
    total: Counter[tuple[int, str]] = Counter()
    for part in parts:
        for slice_, fields in part.items():
            total.update({(slice_, field): n for field, n in fields.items()})
    return {name: n for name, n in total.items() if n}


def _sketch(values: Iterable[int]) -> Mapping[int, int]:
    return Counter(bucket_of(value) for value in values)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 0, 0, 9, 999_999, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 0, 0, 10, tzinfo=UTC), 1),
        (datetime(2026, 1, 5, 12, tzinfo=UTC), 176_761_440),
        (datetime(2026, 1, 5, 17, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))), 176_761_440),
    ],
    ids=str,
)
def test_a_slice_is_ten_seconds_of_the_epoch_wherever_the_moment_is_written(moment: datetime, expected: int) -> None:
    assert expected == slice_of(moment)


@given(st.tuples(*[st.text().filter(lambda name: SEPARATOR not in name)] * 3), st.text())
def test_a_fields_name_is_read_as_it_was_written(cell: tuple[str, str, str], counter: str) -> None:
    assert (cell, counter) == parse_field(field_of(cell, counter))


def test_a_name_that_holds_the_separator_is_refused_not_counted_as_another() -> None:
    with pytest.raises(ValueError, match="control character"):
        field_of(("hdfc", "UPI", f"A{SEPARATOR}B"), "s:SUCCESS")
    with pytest.raises(ValueError, match="control character"):
        fold([told(SUCCEEDED, issuing_bank=f"A{SEPARATOR}B")])


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (SUCCEEDED, {"s:SUCCESS": 1, "l:99": 1}),
        (AttemptEnd(AttemptStatus.REQUIRES_ACTION, None, Blame.NONE), {"s:REQUIRES_ACTION": 1, "l:99": 1}),
        (FAULT, {"s:FAILURE": 1, "b:gateway": 1, "e:GATEWAY_TECHNICAL_ERROR": 1, "l:99": 1}),
        (HANGING, {"s:TIMEOUT": 1, "b:gateway": 1, "e:TIMEOUT": 1, "l:99": 1}),
        (AttemptEnd(AttemptStatus.TIMEOUT, "RESET", Blame.NETWORK), {"s:TIMEOUT": 1, "b:network": 1, "e:RESET": 1}),
        (AttemptEnd(AttemptStatus.TIMEOUT, "ODD", Blame.NONE), {"s:TIMEOUT": 1, "e:ODD": 1}),
        (AttemptEnd(AttemptStatus.FAILURE, "BANK_DOWN", Blame.BANK), {"s:FAILURE": 1, "b:bank": 1, "e:BANK_DOWN": 1}),
        (AttemptEnd(AttemptStatus.FAILURE, "NO_PIN", Blame.CUSTOMER), {"s:FAILURE": 1, "b:customer": 1, "e:NO_PIN": 1}),
        (
            AttemptEnd(AttemptStatus.FAILURE, "NOT_SENT_REFUSED", Blame.GATEWAY),
            {"s:FAILURE": 1, "b:gateway": 1, "e:NOT_SENT_REFUSED": 1},
        ),
        (AttemptEnd(AttemptStatus.SKIPPED, "BREAKER_OPEN", Blame.NONE), {}),
    ],
    ids=lambda each: f"{each.status}-{each.error_code}" if isinstance(each, AttemptEnd) else "",
)
def test_an_attempt_counts_as_it_ended_and_its_time_only_where_it_is_the_gateways(
    end: AttemptEnd, expected: dict[str, int]
) -> None:
    """A refused connection takes no time, and a customer takes any: neither says how fast the gateway is."""
    assert expected == _counters(fold([told(end)]))


def test_a_cell_is_a_gateway_a_method_and_a_bank_and_no_bank_is_the_unknown_one() -> None:
    increments = fold([told(SUCCEEDED), told(SUCCEEDED, issuing_bank=None), told(SUCCEEDED, payment_method="CARD")])
    cells = {parse_field(field)[0] for field in increments[NOW]}
    assert cells == {CELL, ("hdfc", "UPI", "UNKNOWN"), ("hdfc", "CARD", "HDFC")}


def test_what_is_found_later_corrects_the_slice_the_attempt_ended_in() -> None:
    hanging = told(HANGING, latency_ms=2500)
    found = put_right(hanging, SUCCEEDED, NOON + timedelta(minutes=3), latency_ms=180_000)
    assert _added([fold([hanging]), fold([found])]) == {
        (NOW, field_of(CELL, "s:SUCCESS")): 1,
        (NOW, field_of(CELL, f"l:{bucket_of(2500)}")): 1,
    }


@given(attempts, settled)
def test_an_attempt_put_right_counts_as_if_its_true_end_had_been_told(attempt: Event, end: AttemptEnd) -> None:
    """Its time apart: that was the gateway's, or not, by what was known when it passed."""
    later = put_right(attempt, end, attempt.occurred_at + timedelta(minutes=5))
    true = told(
        end,
        attempt.occurred_at,
        gateway_id=attempt.gateway_id,
        payment_method=attempt.payment_method,
        issuing_bank=attempt.issuing_bank,
    )
    corrected, straight = _added([fold([attempt, later])]), _added([fold([true])])
    assert _without_latency(straight) == _without_latency(corrected)


def _without_latency(counted: Mapping[tuple[int, str], int]) -> dict[tuple[int, str], int]:
    return {name: n for name, n in counted.items() if not parse_field(name[1])[1].startswith("l:")}


def test_a_review_changes_nothing_it_leaves_open_what_became_of_the_call() -> None:
    hanging = told(HANGING)
    review = put_right(hanging, SUCCEEDED, NOON, status=Status.MANUAL_REVIEW)
    assert _added([fold([review])]) == {}
    assert _added([fold([told(HANGING, type="payment.verified", status=Status.MANUAL_REVIEW)])]) == {}


def test_an_end_nobody_told_counts_once_when_it_is_verified_and_without_the_payments_time() -> None:
    """The process died in the call: the enquiry minutes later is the first that says how it ended."""
    later = NOON + timedelta(minutes=2)
    verified = told(SUCCEEDED, later, type="payment.verified", latency_ms=120_000)
    assert _added([fold([verified])]) == {(slice_of(later), field_of(CELL, "s:SUCCESS")): 1}


@pytest.mark.parametrize(
    "kind", ["payment.completed", "payment.duplicate_reversed", "breaker.changed", "experiment.paused", "new.kind"]
)
def test_what_is_no_call_counts_nothing(kind: str) -> None:
    assert fold([told(SUCCEEDED, type=kind)]) == {}


@given(st.lists(events, max_size=30), st.randoms(use_true_random=False), st.integers(1, 7))
def test_events_fold_in_any_parts_and_any_order_to_the_same_sums(told_: list[Event], rng: object, size: int) -> None:
    whole = _added([fold(told_)])
    shuffled = list(told_)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    parts = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
    assert whole == _added(map(fold, parts))


@given(st.lists(attempts, max_size=30))
def test_every_attempt_is_in_exactly_one_status(told_: list[Event]) -> None:
    counted = _added([fold(told_)])
    assert sum(n for (_, field), n in counted.items() if parse_field(field)[1].startswith("s:")) == len(told_)


def test_every_latency_up_to_the_most_is_within_the_error_of_its_bucket() -> None:
    far = [ms for ms in range(MAX_LATENCY_MS + 1) if abs(bucket_of(ms) - ms) > RELATIVE_ERROR * ms]
    assert far == []


def test_the_buckets_are_few_in_order_and_name_themselves() -> None:
    buckets = [bucket_of(ms) for ms in range(MAX_LATENCY_MS + 1)]
    assert sorted(buckets) == buckets
    assert len(set(buckets)) < 130
    assert [bucket_of(value) for value in sorted(set(buckets))] == sorted(set(buckets))


@pytest.mark.parametrize(("ms", "bucket"), [(-5, 0), (0, 0), (1, 1), (2, 2), (20, 19), (100, 99), (10**9, None)])
def test_known_buckets_nothing_is_its_own_and_what_took_too_long_is_in_the_last(ms: int, bucket: int | None) -> None:
    assert (bucket_of(MAX_LATENCY_MS) if bucket is None else bucket) == bucket_of(ms)


@given(latencies, shares)
def test_a_quantile_lies_within_the_error_of_the_exact_one(values: list[int], q: float) -> None:
    exact = sorted(values)[math.ceil(q * len(values)) - 1]
    found = quantile(_sketch(values), q)
    assert found is not None
    assert abs(found - exact) <= RELATIVE_ERROR * exact


@given(latencies, latencies, shares)
def test_merged_sketches_answer_as_one_of_all_calls(one: list[int], other: list[int], q: float) -> None:
    merged = _counted(one).merge(_counted(other)).latencies()
    assert quantile(_sketch(one + other), q) == quantile(merged, q)


def _counted(values: list[int]) -> Counts:
    return Counts({f"l:{bucket}": n for bucket, n in _sketch(values).items()})


def test_a_quantile_of_no_calls_is_none() -> None:
    assert quantile({}, 0.95) is None


@given(counts, counts, counts)
def test_counts_merge_in_any_order_and_grouping(one: Counts, two: Counts, three: Counts) -> None:
    assert one.merge(two).merge(three) == one.merge(two.merge(three))
    assert one.merge(two) == two.merge(one)
    assert one.merge(NOTHING) == one


@given(counts, counts)
def test_taking_away_undoes_adding_and_leaves_no_zeros(one: Counts, two: Counts) -> None:
    assert one == one.merge(two).subtract(two)
    assert one.subtract(one) == NOTHING
    assert 0 not in one.merge(two).of.values()


@given(counts, st.sampled_from(["s:SUCCESS", "e:Y"]), st.integers(-3, 3))
def test_one_counter_is_moved_alone(one: Counts, counter: str, amount: int) -> None:
    moved = one.add(counter, amount)
    assert moved.of.get(counter, 0) == one.of.get(counter, 0) + amount
    assert moved.subtract(one).of.keys() <= {counter}


def test_known_figures() -> None:
    """Eight good calls, two faults of the gateway, one of the customer, one that hangs, two under way."""
    counted = Counts(
        {
            "s:SUCCESS": 8,
            "s:FAILURE": 3,
            "s:TIMEOUT": 1,
            "s:REQUIRES_ACTION": 2,
            "b:gateway": 2,
            "b:customer": 1,
            "e:GATEWAY_TECHNICAL_ERROR": 1,
            "e:TIMEOUT": 1,
            "e:INSUFFICIENT_FUNDS": 2,
            f"l:{bucket_of(100)}": 9,
            f"l:{bucket_of(2000)}": 1,
        }
    )
    assert figures_of(counted) == Figures(
        attempts=14,
        successes=8,
        failures=3,
        unknown=1,
        pending=2,
        success_rate=0.8,
        latency=Latency(calls=10, p50_ms=99, p95_ms=bucket_of(2000), p99_ms=bucket_of(2000), relative_error=0.05),
        blame={"gateway": 2, "customer": 1},
        errors={"INSUFFICIENT_FUNDS": 2, "GATEWAY_TECHNICAL_ERROR": 1, "TIMEOUT": 1},
    )


def test_where_nobody_called_there_is_no_rate_and_no_latency() -> None:
    shown = figures_of(NOTHING)
    assert (shown.attempts, shown.success_rate, shown.latency.calls, shown.latency.p95_ms) == (0, None, 0, None)


def test_the_rate_is_over_attributed_calls_alone() -> None:
    """A shop whose customers lack funds has no bad gateway."""
    assert figures_of(Counts({"s:SUCCESS": 1, "s:FAILURE": 99, "b:customer": 99})).success_rate == 1.0
    assert figures_of(Counts({"s:FAILURE": 5, "b:customer": 5})).success_rate is None


@given(st.lists(events, max_size=20))
def test_figures_are_never_negative_even_where_only_a_correction_is_known(told_: list[Event]) -> None:
    of: Counter[str] = Counter()
    for (_, field), n in _added([fold(told_)]).items():
        of[parse_field(field)[1]] += n
    shown = figures_of(Counts(of))
    numbers = (shown.attempts, shown.successes, shown.failures, shown.unknown, shown.pending, shown.latency.calls)
    assert min(*numbers, *shown.blame.values(), *shown.errors.values()) >= 0
    assert shown.success_rate is None or 0.0 <= shown.success_rate <= 1.0
