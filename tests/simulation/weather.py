"""A seed -> what goes wrong in one run, and how often: each run has weather of its own, and some of it is calm."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from pgw.core.ledger.engine.phase import Phase
from pgw.core.ports import ChargeOrder, Reference
from tests.fake_gateway import Deed, Fate, Reach, Reply, Stand
from tests.simulation.store import Trouble

DAY_S = 86_400.0
LATEST_S = 4.7 * DAY_S
"""Until when a gateway may still move money, after the charge: banks have to be done on the fifth day."""

Choices = tuple[tuple[float, Any], ...]


def pick(rng: Random, choices: Choices) -> Any:
    """Draw one by weight."""
    return rng.choices([each for _, each in choices], [weight for weight, _ in choices])[0]


@dataclass(frozen=True)
class Weather:
    """How bad a run is.

    Shares: of charges, calls and commits, to how many something happens; of money, how much comes late; of commits and
    charges, how many have the process stopped or killed that just made them; of changes at a gateway, how many a
    webhook tells; of payments in review, how many a person ends. Numbers: how often processes, clocks and the ledger
    suffer at any moment.
    """

    bad_charge: float
    bad_call: float
    bad_commit: float
    late_money: float
    strikes: float
    hints: float
    people: float
    kills: int
    stops: int
    clock_jumps: int
    outages: int

    @classmethod
    def drawn(cls, rng: Random) -> "Weather":
        """Draw it; each evil is absent from many runs, so that the others are seen alone."""

        def share(most: float) -> float:
            return rng.choice((0.0, rng.uniform(0, most), rng.uniform(0, most)))

        return cls(
            bad_charge=share(0.9),
            bad_call=share(0.5),
            bad_commit=share(0.12),
            late_money=share(0.5),
            strikes=share(0.08),
            hints=share(1.0),
            people=share(1.0),
            kills=rng.choice((0, 1, 2, 4)),
            stops=rng.choice((0, 0, 1, 3)),
            clock_jumps=rng.choice((0, 0, 0, 2)),
            outages=rng.choice((0, 0, 1)),
        )


CALM = Weather(
    bad_charge=0.0,
    bad_call=0.0,
    bad_commit=0.0,
    late_money=0.0,
    strikes=0.0,
    hints=0.0,
    people=0.0,
    kills=0,
    stops=0,
    clock_jumps=0,
    outages=0,
)
CAPTURED = ((0.0, Stand.CAPTURED),)
TROUBLES: Choices = (
    (3, Trouble.AWAY),
    (3, Trouble.UNSEEN),
    (2, Trouble.LATE),
    (2, Trouble.LOST),
    (2, Trouble.TWICE),
    (0.5, Trouble.REFUSED),
    (3, Trouble.SLOW),
)
BAD_CALLS: Choices = ((3, Reply.UNDONE), (2, Reply.LOST), (1, Reply.CRASHED), (2, Reply.STALE), (1, Reply.RESET))


class Fates:
    """What befalls every call to a gateway and every commit of a run."""

    def __init__(self, weather: Weather, rng: Random) -> None:
        self._weather = weather
        self.rng = rng
        self.healed = False
        self.story: Any = None
        self.struck: Any = None

    def of_charge(self, gateway_id: str, order: ChargeOrder) -> Fate:
        rng = self.rng
        self.struck("charge")
        if self.healed or rng.random() >= self._weather.bad_charge:
            return Fate(answers_s=rng.uniform(0.01, 0.4))
        name, deal = pick(rng, BAD_CHARGES)
        fate: Fate = deal(self, order, rng.uniform(0.01, 0.4))
        self.story(f"  {gateway_id}: {name} {fate.stands if fate.deed is Deed.DONE else ''}")
        return fate

    def told_or_lost(self) -> Reply:
        return self.rng.choice((Reply.TOLD, Reply.LOST))

    def sometimes_later(self, stands: Any) -> Any:
        """Money that was asked for may move long after."""
        if self.rng.random() >= self._weather.late_money:
            return stands
        late = self.rng.choice((self.rng.uniform(1, 60), self.rng.uniform(60, 7200), self.rng.uniform(0, LATEST_S)))
        first = self.rng.choice(((), ((0.0, Stand.CREATED),), ((0.0, Stand.FAILED),), ((0.0, Stand.REFUSED),)))
        return (*first, (late, Stand.CAPTURED))

    def turns(self, first: Any) -> Any:
        """A failed charge may turn out well after all: authorised first, or captured."""
        if self.rng.random() >= self._weather.late_money:
            return first
        late = self.rng.choice((self.rng.uniform(1, 60), self.rng.uniform(60, 7200), self.rng.uniform(0, LATEST_S)))
        if self.rng.random() < 0.5:
            return (*first, (late, Stand.CAPTURED))
        return (*first, (late, Stand.AUTHORIZED), *self.expires(late))

    def acting(self) -> Any:
        """The customer pays, at once or too late; gives up; first fails, then pays; or does nothing."""
        rng = self.rng
        acts = rng.choice((rng.uniform(2, 60), rng.uniform(60, 900), rng.uniform(900, DAY_S)))
        late = 2 * acts
        ends = rng.choice(
            (
                ((acts, Stand.CAPTURED),),
                ((acts, Stand.AUTHORIZED), *self.expires(acts)),
                ((acts, Stand.DECLINED),),
                ((acts, Stand.FAILED),),
                ((acts, Stand.DECLINED), (late, Stand.CAPTURED)),
                ((acts, Stand.FAILED), (late, Stand.AUTHORIZED), *self.expires(late)),
                (),
            )
        )
        return ((0.0, Stand.CREATED), *ends)

    def expires(self, since_s: float) -> Any:
        """An authorisation that nobody captures goes back by itself."""
        return ((since_s + self.rng.uniform(0.1, 2.0) * DAY_S, Stand.REFUSED),)

    def of_call(self, gateway_id: str, name: str, reference: Reference) -> Reach:
        rng = self.rng
        if self.healed or rng.random() >= self._weather.bad_call:
            return Reach(answers_s=rng.uniform(0.005, 0.1))
        reply = pick(rng, BAD_CALLS)
        if name == "reverse" and rng.random() < 0.5:
            reply = rng.choice((Reply.BUSY, Reply.TAKEN_ON, Reply.TAKEN_ON, Reply.TAKEN_ON, Reply.FORBIDDEN))
        self.story(f"  {gateway_id}: {name} {reply.name}")
        if reply is Reply.TAKEN_ON:
            return Reach(reply, rng.uniform(0.005, 0.5), made_after_s=rng.uniform(0.1, 10) * DAY_S)
        return Reach(reply, rng.uniform(0.005, 0.5), old_s=rng.uniform(0, 400) if reply is Reply.STALE else 0.0)

    def of_commit(self, phase: Phase) -> Trouble | None:
        if self.healed or self.rng.random() >= self._weather.bad_commit:
            return None
        trouble: Trouble = pick(self.rng, TROUBLES)
        self.story(f"  ledger: {phase.name} {trouble.name}")
        return trouble


Deal = Callable[[Fates, ChargeOrder, float], Fate]


def _failed(first: Stand) -> Deal:
    """It fails, and mostly says so; some turn out well after all."""
    replies = (Reply.TOLD, Reply.TOLD, Reply.TOLD, Reply.LOST)
    return lambda it, _, quick: Fate(stands=it.turns(((0.0, first),)), reply=it.rng.choice(replies), answers_s=quick)


def _slow_on_its_way(it: Fates, _: ChargeOrder, __: float) -> Fate:
    return Fate(arrives_s=it.rng.choice((it.rng.uniform(1, 30), it.rng.uniform(30, 1200))), reply=Reply.LOST)


def _authorised(it: Fates, _: ChargeOrder, quick: float) -> Fate:
    stands = ((0.0, Stand.CREATED), (quick, Stand.AUTHORIZED), *it.expires(quick))
    return Fate(stands=stands, reply=it.told_or_lost(), answers_s=2 * quick)


def _pending(it: Fates, _: ChargeOrder, quick: float) -> Fate:
    end = it.rng.choice((Stand.CAPTURED, Stand.REFUSED, Stand.DECLINED, Stand.FAILED, None))
    stands = ((0.0, Stand.CREATED), *(((it.rng.uniform(1, DAY_S), end),) if end else ()))
    return Fate(stands=stands, reply=it.rng.choice((Reply.RESET, Reply.LOST)), answers_s=quick)


def _other_late(it: Fates, order: ChargeOrder, quick: float) -> Fate:
    """It fails, says so, and captures soon after, another amount than was asked for."""
    stands = ((0.0, it.rng.choice((Stand.DECLINED, Stand.FAILED))), (it.rng.uniform(0.5, 20), Stand.CAPTURED))
    return Fate(stands=stands, amount_minor=order.amount_minor + it.rng.choice((-1, 1)), answers_s=quick)


_BAD_CHARGES: tuple[tuple[float, str, Deal], ...] = (
    (3, "answer lost", lambda it, _, __: Fate(stands=it.sometimes_later(CAPTURED), reply=Reply.LOST)),
    (2, "reset", lambda it, _, quick: Fate(stands=it.sometimes_later(CAPTURED), reply=Reply.RESET, answers_s=quick)),
    (1, "crashed", lambda _, __, quick: Fate(reply=Reply.CRASHED, answers_s=quick)),
    (2, "swallowed", lambda it, _, __: Fate(Deed.SWALLOWED, reply=it.rng.choice((Reply.LOST, Reply.RESET)))),
    (2, "unreached", lambda it, _, quick: Fate(Deed.UNREACHED, answers_s=it.rng.choice((quick, 2.0)))),
    (2, "refused", _failed(Stand.REFUSED)),
    (2, "declined", _failed(Stand.DECLINED)),
    (1, "failed", _failed(Stand.FAILED)),
    (1, "slow", lambda it, _, __: Fate(answers_s=it.rng.uniform(1.0, 5.0))),
    (1, "slow on its way", _slow_on_its_way),
    (
        1,
        "wrong amount",
        lambda it, order, quick: Fate(
            amount_minor=order.amount_minor + it.rng.choice((-1, 1)), reply=it.told_or_lost(), answers_s=quick
        ),
    ),
    (1, "another amount, late", _other_late),
    (0.5, "wrong currency", lambda it, _, quick: Fate(currency="USD", reply=it.told_or_lost(), answers_s=quick)),
    (2, "at the customer", lambda it, _, quick: Fate(stands=it.acting(), reply=it.told_or_lost(), answers_s=quick)),
    (1, "authorised", _authorised),
    (1, "pending", _pending),
)
BAD_CHARGES: Choices = tuple((weight, (name, deal)) for weight, name, deal in _BAD_CHARGES)
