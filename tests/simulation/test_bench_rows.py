"""Numbered faults of clocks and of gateways that are slow or flap, played step by step on virtual time."""

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

import pytest

from pgw.core.breakers.breaker import State, TransitionCause
from pgw.core.flow.verification.verify import verify_due
from pgw.core.ledger.payments import OPEN
from pgw.core.ports import ChargeOrder
from tests.doubles import request_of
from tests.fake_gateway import Deed, Fate, Stand
from tests.simulation.bench import Bench, Hand
from tests.simulation.run import ask
from tests.simulation.scene import GATEWAYS, build

Saw = Callable[..., None]

FIRST, OTHER = "a", "b"
STEPS_S = (3600.0, -3600.0, 0.5, -0.5)
"""An hour's jump either way, and the steps by which clocks are put right."""

KEYS = [(each, "UPI") for each in GATEWAYS]
CAPPED_S = 300

OPEN_S = 30
LEFT_S = (15.0, 35.0)
"""Within this a slow gateway is left, with a call each half second: it is after 20 answers, for at least 24 s."""


def _begin(bench: Bench, number: int, seconds: float = 0.0) -> None:
    key = f"key-{number}"
    bench.run.asked[key] = request_of(1000)
    bench.let(_asked(bench, key))
    bench.wait(seconds)


async def _asked(bench: Bench, key: str) -> None:
    await ask(bench.run, key, bench.run.asked[key], "")


def _violations(bench: Bench) -> int:
    """Let all come to its end, and check it."""
    bench.heal()
    found = bench.violations(bench.cases())
    assert found == []
    assert bench.wrong == []
    return len(found)


@pytest.mark.parametrize("who", [FIRST, OTHER], ids=["the sender's clock", "a verifier's clock"])
def test_a_clock_that_jumps_under_a_payment_charges_nobody_twice(saw: Callable[..., None], who: str) -> None:
    """The jump comes with the charge on its way; both processes verify; then the clock is put right."""
    ends: Counter[str] = Counter()
    charges, taken_over, violations = [], 0, 0
    for step_s in STEPS_S:
        with closing(Bench()) as bench:
            bench.hand.charges.append(Fate(answers_s=2.0))
            _begin(bench, 1, 1.0)
            other = build(bench.run, OTHER)
            jumping = bench.run.houses[who].process
            jumping.skew = timedelta(seconds=step_s)
            for _ in range(3):
                for place in (FIRST, OTHER):
                    bench.do(verify_due, place)
                bench.wait(1.0)
            jumping.skew = timedelta()
            taken_over += len(bench.run.store.claimed)
            violations += _violations(bench)
            ends.update(str(case.payment.status) for case in bench.cases())
            charges.append(len(bench.run.book.charges))
            assert other.process.alive
    assert (dict(ends), charges) == ({"SUCCESS": 4}, [1, 1, 1, 1])
    # Ahead by an hour, a verifier believes each lease to be over: it asks too early, and charges nobody.
    assert taken_over == 1
    words = (
        f"jumps of +-1 h and +-0.5 s: {ends['SUCCESS']} SUCCESS, {max(charges)} charge each; {taken_over} asked about "
        f"too early; {violations} violations"
    )
    saw(36, words, case="the sender's" if who == FIRST else "a verifier's")


def test_a_sender_that_stood_still_is_not_let_off_its_lease_by_its_clock(saw: Saw) -> None:
    """It stands still right after its announcement, a verifier takes over, and its clock is set back by an hour."""
    with closing(Bench()) as bench:
        sender = bench.runtime.process
        build(bench.run, OTHER)
        bench.run.store.struck = lambda process, phase: process.stop() if phase is OPEN else None
        _begin(bench, 1, 10.0)
        assert bench.do(verify_due, OTHER) == 1
        sender.skew = timedelta(hours=-1)
        sender.go_on()
        bench.wait(10.0)
        assert bench.run.book.charges == []
        sender.skew = timedelta()
        violations = _violations(bench)
        (case,) = bench.cases()
        (attempt,) = case.attempts
        assert (case.payment.status, bench.run.book.charges) == ("FAILURE", [])
        taken_over = len(bench.run.store.claimed)
        words = (
            f"taken over {taken_over} time; {len(bench.run.book.charges)} charges; attempt {attempt.status}; "
            f"{case.payment.status}; {violations} violations"
        )
        saw(36, words, case="back, under a sender that stood still")


class Timed(Hand):
    """Lets g1 behave by the time of day, and all others well."""

    def __init__(self, fate: Callable[[float], Fate]) -> None:
        super().__init__()
        self.fate = fate
        self.passed: Callable[[], float] = lambda: 0.0
        self.called: list[tuple[float, str]] = []

    def of_charge(self, gateway_id: str, order: ChargeOrder) -> Fate:
        self.called.append((self.passed(), gateway_id))
        return self.fate(self.passed()) if gateway_id == "g1" else Fate()


def _paced(bench: Bench, payments: int, every_s: float) -> tuple[list[float], list[str]]:
    """Take payments at a steady pace; return each open time of g1's shared breaker, and why it opened."""
    bench.run.store.struck = lambda *_: None
    opened: list[float] = []
    why: list[str] = []
    epoch = 0
    for number in range(payments):
        _begin(bench, number, every_s)
        bench.do(lambda deps: bench.runtime.circuit.step(KEYS, {}, frozenset({bench.runtime.process.name})))
        breaker = bench.runtime.circuit._breakers[KEYS[0]].shared
        if breaker.state is State.OPEN and breaker.epoch != epoch:
            epoch = breaker.epoch
            opened.append(breaker.open_s)
            why.append(str(breaker.cause))
    return opened, why


def test_a_gateway_that_flaps_is_left_for_longer_and_longer_up_to_the_cap(saw: Saw) -> None:
    """Ten seconds up, ten seconds down, for 45 minutes, a payment each second."""
    up_s = 10
    hand = Timed(lambda passed: Fate(Deed.UNREACHED) if int(passed / up_s) % 2 else Fate())
    with closing(Bench(hand)) as bench:
        hand.passed = bench.run.loop.time
        opened, _ = _paced(bench, 2700, 1.0)
        assert opened == sorted(opened)
        assert (opened[0], opened[-1]) == (OPEN_S, CAPPED_S)
        assert max(opened) == CAPPED_S
        violations = _violations(bench)
        ends = Counter(str(case.payment.status) for case in bench.cases())
        assert ends == {"SUCCESS": 2700}
        steps = ", ".join(f"{length:.0f} s x {times}" for length, times in Counter(opened).items())
        saw(14, f"left {len(opened)} times: {steps}; all {ends['SUCCESS']} payments SUCCESS; {violations} violations")


def test_a_gateway_that_is_slow_and_does_not_fail_is_left(saw: Saw) -> None:
    """Each charge succeeds, after 2.2 s; a payment every half second."""
    hand = Timed(lambda _: Fate(stands=((0.0, Stand.CAPTURED),), answers_s=2.2))
    with closing(Bench(hand)) as bench:
        hand.passed = bench.run.loop.time
        opened, why = _paced(bench, 100, 0.5)
        assert (opened, why) == ([OPEN_S], [TransitionCause.SLOW_RATE])
        before = [name for _, name in hand.called[:20]]
        left = [name for moment, name in hand.called if LEFT_S[0] < moment < LEFT_S[1]]
        assert Counter(before) == {"g1": 20}
        assert Counter(left)["g1"] == 0
        violations = _violations(bench)
        ends = Counter(str(case.payment.status) for case in bench.cases())
        assert ends == {"SUCCESS": 100}
        words = (
            f"left by its {why[0]}; while left {Counter(left)['g1']} of {len(left)} calls; "
            f"all {ends['SUCCESS']} payments SUCCESS; {violations} violations"
        )
        saw(13, words)
