"""Whether a gateway may be chosen at a moment: an operator's word first, then the breaker, then its slow start."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgw.core.breakers.admission import ADMITTED, Admission, admission_of
from pgw.core.breakers.breaker import Rules, State, View
from pgw.core.breakers.override import Override
from tests.core.drawn import overrides, rules, views

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = ("hdfc", "UPI")
JUST = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)

all_rules = rules
moments = st.floats(-30, 90).map(lambda seconds: NOON + timedelta(seconds=seconds))


def _view(state: State, *, until: datetime | None = None, closed_at: datetime | None = None, released: int = 0) -> View:
    return View(state=state, epoch=1, since=NOON, until=until, closed_at=closed_at, released=released)


def _override(state: State, expires_at: datetime, version: int = 5) -> Override:
    return Override(
        gateway_id=KEY[0],
        payment_method=KEY[1],
        state=state,
        reason="test",
        actor="ann",
        forced_at=NOON - timedelta(hours=1),
        expires_at=expires_at,
        version=version,
    )


def test_a_breaker_nobody_knows_is_well() -> None:
    assert admission_of(None, None, NOON, Rules()) == ADMITTED == Admission(State.CLOSED, 1.0)


@pytest.mark.parametrize("state", [State.CLOSED, State.HALF_OPEN])
def test_a_breaker_nobody_forced_stands_as_it_is(state: State) -> None:
    assert admission_of(_view(state), None, NOON, Rules()) == Admission(state)


@pytest.mark.parametrize(
    ("until", "state"),
    [
        (None, State.OPEN),
        (NOON + JUST, State.OPEN),
        (NOON, State.HALF_OPEN),
        (NOON - timedelta(days=1), State.HALF_OPEN),
    ],
)
def test_an_open_time_that_has_passed_means_probing(until: datetime | None, state: State) -> None:
    """However long ago: an idle breaker does not stay open in anybody's eyes."""
    assert admission_of(_view(State.OPEN, until=until), None, NOON, Rules()) == Admission(state)


@given(st.none() | views(NOON), overrides(KEY, NOON), moments, all_rules)
def test_an_operators_word_in_force_beats_whatever_the_breaker_says(
    view: View | None, override: Override, now: datetime, rules: Rules
) -> None:
    if now < override.expires_at:
        assert admission_of(view, override, now, rules) == Admission(override.state)


@given(st.none() | views(NOON), overrides(KEY, NOON), moments, all_rules)
def test_an_override_that_has_ended_and_was_noticed_says_nothing_any_more(
    view: View | None, override: Override, now: datetime, rules: Rules
) -> None:
    """A forced-closed one needs no notice: the breaker has gone on judging beneath it."""
    noticed = override.state is State.FORCED_CLOSED or (view is not None and view.released >= override.version)
    if now >= override.expires_at and noticed:
        assert admission_of(view, override, now, rules) == admission_of(view, None, now, rules)


@given(st.none() | views(NOON), overrides(KEY, NOON), moments, all_rules)
def test_a_forced_open_that_has_ended_means_probing_until_the_breaker_noticed(
    view: View | None, override: Override, now: datetime, rules: Rules
) -> None:
    unnoticed = view is None or view.released < override.version
    if now >= override.expires_at and override.state is State.FORCED_OPEN and unnoticed:
        assert admission_of(view, override, now, rules) == Admission(State.HALF_OPEN)


@pytest.mark.parametrize(
    ("now", "released", "state"),
    [
        (NOON - JUST, 0, State.FORCED_OPEN),
        (NOON - JUST, 5, State.FORCED_OPEN),
        (NOON, 0, State.HALF_OPEN),
        (NOON, 4, State.HALF_OPEN),
        (NOON, 5, State.CLOSED),
        (NOON, 6, State.CLOSED),
    ],
)
def test_a_gateway_that_was_forced_open_is_probed_before_it_is_trusted(
    now: datetime, released: int, state: State
) -> None:
    """An order's last moment is the one before it expires; a newer order's end counts for an older's too."""
    view = _view(State.CLOSED, released=released)
    assert admission_of(view, _override(State.FORCED_OPEN, NOON), now, Rules()) == Admission(state)


@pytest.mark.parametrize(("now", "state"), [(NOON - JUST, State.FORCED_CLOSED), (NOON, State.OPEN)])
def test_a_forced_closed_that_has_ended_leaves_the_breaker_as_it_is(now: datetime, state: State) -> None:
    view = _view(State.OPEN, until=NOON + SECOND)
    assert admission_of(view, _override(State.FORCED_CLOSED, NOON), now, Rules()) == Admission(state)


@pytest.mark.parametrize(
    ("seconds", "share"),
    [(-1.0, 0.1), (0.0, 0.1), (5.0, 0.325), (10.0, 0.55), (19.0, 0.955), (20.0, 1.0), (20.001, 1.0), (1e6, 1.0)],
)
def test_a_slow_start_grows_from_a_tenth_to_the_whole_in_twenty_seconds(seconds: float, share: float) -> None:
    """Also on a process whose clock is behind the one that closed the breaker: it begins at the beginning."""
    view = _view(State.CLOSED, closed_at=NOON)
    known = admission_of(view, None, NOON + timedelta(seconds=seconds), Rules())
    assert known.state is State.CLOSED
    assert known.share == pytest.approx(share, abs=1e-12)


@given(all_rules, st.floats(-10, 100), st.floats(-10, 100))
def test_the_share_never_shrinks_while_a_slow_start_lasts(rules: Rules, one: float, other: float) -> None:
    view = _view(State.CLOSED, closed_at=NOON)
    earlier, later = [
        admission_of(view, None, NOON + timedelta(seconds=seconds), rules).share for seconds in sorted((one, other))
    ]
    assert rules.slow_start_from <= earlier <= later <= 1.0


@given(all_rules)
def test_after_its_slow_start_a_breaker_is_well(rules: Rules) -> None:
    """To the bit, or every plan for ever after would keep it as a breaker that is not simply closed."""
    view = _view(State.CLOSED, closed_at=NOON)
    assert admission_of(view, None, NOON + timedelta(seconds=rules.slow_start_s) + JUST, rules) == ADMITTED


@given(st.none() | views(NOON), st.none() | overrides(KEY, NOON), moments, all_rules)
def test_only_a_closed_breaker_takes_less_than_all(
    view: View | None, override: Override | None, now: datetime, rules: Rules
) -> None:
    known = admission_of(view, override, now, rules)
    assert 0.0 < known.share <= 1.0
    assert known.state is State.CLOSED or known.share == 1.0


@given(views(NOON), moments, all_rules)
def test_a_standing_depends_on_nothing_that_is_for_people(view: View, now: datetime, rules: Rules) -> None:
    told = msgspec.structs.replace(view, cause="failure_rate", probes="2/3", incident=(NOON, None), since=NOON)
    assert admission_of(told, None, now, rules) == admission_of(view, None, now, rules)
