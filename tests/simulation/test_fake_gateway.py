"""A gateway that charges and loses its answers, in any order and number, never ends with two net captures.

The fake gateway shares no code with the sandboxes; hypothesis draws what it does, what befalls the ledger and the
processes meanwhile, and shrinks what goes wrong.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from pgw.core.ledger.engine.phase import Phase
from pgw.core.ledger.payments import CLOSE
from pgw.core.ledger.tables import attempts
from pgw.core.payment.payment import Status
from pgw.core.ports import ChargeOrder, Reference
from tests.fake_gateway import Deed, Fate, Reach, Reply, Stand
from tests.simulation.checks import faults
from tests.simulation.mutants import money_in_review_is_booked_again
from tests.simulation.run import simulate
from tests.simulation.scene import Run
from tests.simulation.store import Trouble
from tests.simulation.weather import CALM, DAY_S, LATEST_S, Fates, Weather

EXAMPLES_VARIABLE = "PGW_TEST_EXAMPLES"
EXAMPLES = int(os.environ.get(EXAMPLES_VARIABLE, "200"))

PLAIN = 40
"""Examples of the plain command."""

EXPIRES_S = DAY_S / 2
ROUNDS = 5

moments = st.sampled_from([0.0, 0.1, 1.0, 3.0, 10.0, 700.0, 4000.0, 90_000.0, LATEST_S])
ends = st.sampled_from(
    [Stand.CAPTURED, Stand.CAPTURED, Stand.REFUSED, Stand.DECLINED, Stand.FAILED, Stand.AUTHORIZED, Stand.CREATED]
)


@dataclass(frozen=True)
class Played:
    """One charge as it is to go; `off`: how far its amount is from the one asked for."""

    fate: Fate
    off: int = 0

    def of(self, order: ChargeOrder) -> Fate:
        """Say what becomes of this order."""
        return replace(self.fate, amount_minor=order.amount_minor + self.off)


@st.composite
def charges(draw: st.DrawFn) -> Played:
    """Draw one charge: when it arrives, how it ends, whether it changes its mind once, and what is said of it."""
    first, then = draw(ends), draw(ends)
    at = draw(moments)
    stands = [(0.0, Stand.CREATED)] if at else []
    stands.append((at, first))
    if first is not Stand.CAPTURED and draw(st.booleans()):
        stands.append((draw(st.sampled_from([1.0, 3.0, 3600.0, LATEST_S])) + at, then))
    stands = [each for each in stands if each[0] <= LATEST_S]
    if stands[-1][1] is Stand.AUTHORIZED:
        # Nobody's money is held for ever.
        stands.append((stands[-1][0] + EXPIRES_S, Stand.REFUSED))
    fate = Fate(
        deed=draw(st.sampled_from([Deed.DONE, Deed.DONE, Deed.DONE, Deed.SWALLOWED, Deed.UNREACHED])),
        arrives_s=draw(st.sampled_from([0.0, 0.0, 0.5, 5.0, 100.0])),
        stands=tuple(stands),
        reply=draw(st.sampled_from([Reply.TOLD, Reply.LOST, Reply.RESET, Reply.CRASHED])),
        answers_s=draw(st.sampled_from([0.01, 1.0, 4.0])),
    )
    return Played(fate, draw(st.sampled_from([0, 0, 0, 1, -1])))


replies = st.sampled_from([Reply.TOLD, Reply.TOLD, Reply.UNDONE, Reply.LOST, Reply.RESET, Reply.CRASHED, Reply.BUSY])
commits = st.sampled_from([None, None, None, None, *Trouble])
weathers = st.builds(
    Weather,
    bad_charge=st.just(0.0),
    bad_call=st.just(0.0),
    bad_commit=st.just(0.0),
    late_money=st.just(0.0),
    strikes=st.sampled_from([0.0, 0.05, 0.2]),
    hints=st.sampled_from([0.0, 1.0]),
    people=st.sampled_from([0.0, 1.0]),
    kills=st.integers(0, 4),
    stops=st.integers(0, 3),
    clock_jumps=st.just(0),
    outages=st.integers(0, 1),
)


class Told(Fates):
    """Plays the drawn charges and replies, again from the start when they run out, and the commits some times."""

    def __init__(
        self,
        played: Sequence[Played],
        answered: Sequence[Reply] = (),
        committed: Sequence[Trouble | None] = (),
        weather: Weather = CALM,
    ) -> None:
        super().__init__(weather, Random(0))
        self._charges = cycle(played)
        # Somebody answers in the end.
        self._replies = cycle([*answered, Reply.TOLD])
        # For ever, the same commit might be struck each time: then nobody could tell an end within five days.
        self._commits = iter([*committed] * ROUNDS)

    def of_charge(self, gateway_id: str, order: ChargeOrder) -> Fate:
        self.struck("charge")
        return Fate() if self.healed else next(self._charges).of(order)

    def of_call(self, gateway_id: str, name: str, reference: Reference) -> Reach:
        return Reach() if self.healed else Reach(next(self._replies))

    def of_commit(self, phase: Phase) -> Trouble | None:
        return None if self.healed else next(self._commits, None)


def _wrong_by_the_book(run: Run) -> list[str]:
    """Say by the gateways' book alone, and by none of pgw's checks, who paid twice, and what nobody wrote down."""
    now = run.book.now()
    kept = Counter(each.reference.payment_id for each in run.book.charges if each.net(now) > 0)
    query = select(attempts.c.payment_id, attempts.c.attempt_number, attempts.c.gateway_id, attempts.c.started_at)
    announced = {tuple(row[:3]): row[3] for row in run.store.memory.connection.execute(query)}
    names = [(each.reference.payment_id, each.reference.attempt_number, each.gateway_id) for each in run.book.charges]
    return [
        *(f"{payment_id} keeps {count} charges" for payment_id, count in kept.items() if count > 1),
        *(f"{name} was charged {count} times" for name, count in Counter(names).items() if count > 1),
        *(
            f"{name} was charged before it was written down"
            for name, each in zip(names, run.book.charges, strict=True)
            if name not in announced or announced[name] > each.sent_at
        ),
        *(f"{each.transaction_ref} gave back more than it took" for each in run.book.charges if each.net(now) < 0),
    ]


def _lived(fates: Told, weather: Weather = CALM, seed: int = 1, payments: int = 4) -> Run:
    return simulate(seed, weather, fates, payments)


drawn = given(
    played=st.lists(charges(), min_size=1, max_size=8),
    answered=st.lists(replies, max_size=6),
    committed=st.lists(commits, max_size=10),
    weather=weathers,
    seed=st.integers(0, 9999),
    payments=st.integers(1, 6),
)


def _comes_out_right(
    *,
    played: list[Played],
    answered: list[Reply],
    committed: list[Trouble | None],
    weather: Weather,
    seed: int,
    payments: int,
) -> None:
    run = _lived(Told(played, answered, committed, weather), weather, seed, payments)
    assert _wrong_by_the_book(run) == []
    assert faults(run) == []


@settings(max_examples=PLAIN)
@drawn
def test_no_payment_ends_with_two_net_captures(**life: object) -> None:
    """Several clients at once, some asking twice, processes that die and start again, any charges and answers."""
    _comes_out_right(**life)  # type: ignore[arg-type]  # as drawn


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@drawn
def test_no_payment_ends_with_two_net_captures_in_many_more_lives(**life: object) -> None:
    _comes_out_right(**life)  # type: ignore[arg-type]  # as drawn


def test_an_answer_that_is_always_lost_is_found_out() -> None:
    """Every charge is made, no answer ever comes back: each payment is charged once, and is known to be."""
    run = _lived(Told([Played(Fate(reply=Reply.LOST))]))
    assert faults(run) == []
    assert {each.word for each in run.answers if each.payment_id} == {Status.SUCCESS, Status.PENDING_VERIFICATION}
    assert len(run.book.charges) == len(run.asked)
    assert _wrong_by_the_book(run) == []


class LateEnds(Told):
    """Whoever ends a payment gives up waiting for it to be written, and it is written later."""

    def of_commit(self, phase: Phase) -> Trouble | None:
        return Trouble.LATE if phase.name == CLOSE.name and not self.healed else None


OTHER_LATE = Played(Fate(stands=((0.0, Stand.DECLINED), (1.0, Stand.CAPTURED))), off=1)
"""Declined, says the gateway, and captures another amount a second later."""


@pytest.mark.parametrize("people", [0.0, 1.0], ids=["nobody judges", "a person judges"])
def test_money_in_review_is_booked_once_though_its_owner_was_told_of_a_decline(people: float) -> None:
    run = _lived(LateEnds([OTHER_LATE]), replace(CALM, people=people), payments=8)
    assert faults(run) == []
    judged = any("a person says" in line for line in run.story)
    assert judged is bool(people)


def test_money_in_review_that_a_watch_would_book_again_is_refused_by_the_ledger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its last wall keeps the books right; the watch, which is refused for ever, is what is found wrong."""
    money_in_review_is_booked_again(monkeypatch)
    found = faults(_lived(LateEnds([OTHER_LATE]), payments=8))
    bugs = {each for each in found if each.startswith("the ledger refused one find_money_anyway item")}
    assert bugs
    assert {each.partition(": ")[2] for each in set(found) - bugs} == {"attempt 1 is still WATCHING"}
