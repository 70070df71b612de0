"""A home, a seed -> its server killed under load, again and again, then started: what was answered, what is left."""

import asyncio
from dataclasses import dataclass
from random import Random

from pgw.core.money.invariants import Violation
from pgw.core.payment.payment import Status
from tests.faults.proof import settled, violations
from tests.seams.load import Answer, Clients
from tests.seams.serving import Audit, Records, Shop, audit, wait_until

WORDS = 4_000
"""How much of what a server said last is shown, when it says no more."""

HEAL_LIMIT_S = 120.0
"""A check that was under way at a kill is claimed again after thirty seconds, and the schedule's first steps follow."""


@dataclass(frozen=True, slots=True)
class Killed:
    """What clients were answered, and what ledger and book say, after everything has healed; what serves still runs."""

    clients: Clients
    found: Audit
    violations: tuple[Violation, ...]

    def lost(self) -> set[str]:
        """Name the payments that were acknowledged with an end that is not theirs."""
        told = self.clients.told
        ended = {word: self.found.ended(Status(word)) for word in ("SUCCESS", "FAILURE")}
        return {key for word, kept in ended.items() for key in told.acknowledged(word).keys() - kept}

    def twice(self) -> set[str]:
        """Name the payments that were charged more than once."""
        return {key for key, times in self.found.captures.items() if times > 1}

    def wrong(self) -> list[str]:
        """Name everything that is wrong."""
        return [
            *(f"{each} was acknowledged with an end that is not its own" for each in sorted(self.lost())),
            *(f"{each} was charged {self.found.captures[each]} times" for each in sorted(self.twice())),
            *(f"the book has {each}, and there is no such attempt" for each in self.found.orphans),
            *(f"{each} has no end, and nobody will ask" for each in sorted(self.found.unscheduled())),
            *(f"nobody should be answered {each}" for each in self.clients.told.unexpected()),
            *(f"{each.invariant} violated by {each.payment_id}: {each.what}" for each in self.violations),
        ]

    def figures(self) -> str:
        """Say it in one line."""
        told = self.clients.told
        states = {str(status): len(self.found.ended(status)) for status in Status}
        return (
            f"asked {told.asked}, of these cut off {told.asked - told.heard}, keys {len(self.clients.keys)}, "
            f"acknowledged SUCCESS {len(told.acknowledged('SUCCESS'))}, FAILURE {len(told.acknowledged('FAILURE'))}, "
            f"charges {self.found.captures.total()}, payments {states}; lost {len(self.lost())}, "
            f"charged twice {len(self.twice())}, charges without an attempt {len(self.found.orphans)}, "
            f"neither ended nor scheduled {len(self.found.unscheduled())}, "
            f"answers nobody should get {len(self.clients.told.unexpected())}, violations {len(self.violations)}"
        )


async def healed(opened: Records) -> None:
    """Wait until nothing is on its way any more."""
    await asyncio.to_thread(wait_until, opened.is_healed, "the end of all open payments", HEAL_LIMIT_S)


def killed(opened: Shop, seed: int, kills: int) -> Killed:
    """Kill, heal, ask every key once more: each was answered with one payment, before and after."""
    rng = Random(seed)

    async def scenario() -> Clients:
        clients = Clients(seed)
        for _ in range(kills):
            opened.start()
            async with clients.at_work(opened.address):
                try:
                    await clients.answered(rng.randint(1, 400))
                except TimeoutError as fault:
                    raise AssertionError(f"no answers any more: {opened.words()[-WORDS:]}") from fault
                opened.kill()
        opened.start()
        await healed(opened)
        agree_on_every_key(clients, await clients.ask_again(opened.address, clients.keys))
        # What never got through is a payment only now, and some of those never answer.
        await healed(opened)
        return clients

    clients = asyncio.run(scenario())
    return Killed(clients, audit(opened), violated(opened))


def violated(kept: Records) -> tuple[Violation, ...]:
    """Check ledger and book by the invariants."""
    return violations(kept.database, settled(kept.book()))


def agree_on_every_key(clients: Clients, now: dict[str, Answer]) -> None:
    """Every key is answered with the payment it was answered with before."""
    for key, answer in now.items():
        assert answer.code in {201, 202}, answer
        assert clients.told.ids(key) <= {answer.payment_id}
        clients.told.answers[key].append(answer)
