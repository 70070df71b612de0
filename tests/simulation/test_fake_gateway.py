"""A gateway that charges and loses its answers, in any order and number, never ends with two net captures.

The fake gateway shares no code with the sandboxes; hypothesis draws what it does, and shrinks what goes wrong.
"""

from itertools import cycle
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pgw.core.payment import Status
from pgw.core.ports import ChargeOrder, Reference
from tests.fake_gateway import Deed, Fate, Reach, Reply, Stand
from tests.simulation.checks import faults
from tests.simulation.run import simulate
from tests.simulation.scene import Run
from tests.simulation.weather import CALM, LATEST_S, Fates

moments = st.sampled_from([0.0, 0.1, 1.0, 10.0, 700.0, 4000.0, 90_000.0, LATEST_S])
ends = st.sampled_from([Stand.CAPTURED, Stand.CAPTURED, Stand.REFUSED, Stand.DECLINED, Stand.FAILED])


@st.composite
def charges(draw: st.DrawFn) -> Fate:
    """Draw one charge: when it arrives, how it ends, whether it changes its mind once, and what is said of it."""
    first, then = draw(ends), draw(ends)
    at = draw(moments)
    stands = [(0.0, Stand.CREATED)] if at else []
    stands.append((at, first))
    if first is not Stand.CAPTURED and draw(st.booleans()):
        stands.append((draw(st.sampled_from([1.0, 3600.0, LATEST_S])) + at, then))
    return Fate(
        deed=draw(st.sampled_from([Deed.DONE, Deed.DONE, Deed.DONE, Deed.SWALLOWED, Deed.UNREACHED])),
        arrives_s=draw(st.sampled_from([0.0, 0.0, 0.5, 5.0, 100.0])),
        stands=tuple(each for each in stands if each[0] <= LATEST_S),
        reply=draw(st.sampled_from([Reply.TOLD, Reply.LOST, Reply.RESET, Reply.CRASHED])),
        answers_s=draw(st.sampled_from([0.01, 1.0, 4.0])),
    )


replies = st.sampled_from([Reply.TOLD, Reply.TOLD, Reply.UNDONE, Reply.LOST, Reply.RESET, Reply.CRASHED, Reply.BUSY])


class Told(Fates):
    """Plays the drawn charges and replies, again from the start when they run out."""

    def __init__(self, played: list[Fate], answered: list[Reply]) -> None:
        super().__init__(CALM, Random(0))
        self._charges = cycle(played)
        # Somebody answers in the end.
        self._replies = cycle([*answered, Reply.TOLD])

    def of_charge(self, gateway_id: str, order: ChargeOrder) -> Fate:
        return Fate() if self.healed else next(self._charges)

    def of_call(self, gateway_id: str, name: str, reference: Reference) -> Reach:
        return Reach() if self.healed else Reach(next(self._replies))


def _lived(played: list[Fate], answered: list[Reply]) -> Run:
    return simulate(1, CALM, Told(played, answered), payments=4)


@given(st.lists(charges(), min_size=1, max_size=8), st.lists(replies, min_size=1, max_size=6))
@settings(max_examples=40)
def test_no_payment_ends_with_two_net_captures(played: list[Fate], answered: list[Reply]) -> None:
    assert faults(_lived(played, answered)) == []


def test_an_answer_that_is_always_lost_is_found_out() -> None:
    """Every charge is made, no answer ever comes back: each payment is charged once, and is known to be."""
    run = _lived([Fate(reply=Reply.LOST)], [Reply.TOLD])
    assert faults(run) == []
    assert {each.word for each in run.answers if each.payment_id} == {Status.SUCCESS, Status.PENDING_VERIFICATION}
    assert len(run.book.charges) == len(run.asked)


def test_a_reversal_whose_answer_is_lost_is_made_once() -> None:
    """Fault 43: declined, captured after all, and each answer to the reversal is lost, for days."""
    late = Fate(stands=((0.0, Stand.DECLINED), (60.0, Stand.CAPTURED)))
    run = _lived([late], [Reply.TOLD, Reply.RESET])
    assert faults(run) == []
    assert {len(each.given_back) for each in run.book.charges} == {1}
