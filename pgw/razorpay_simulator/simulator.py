"""A clock, faults, a way to approve -> the sandbox that every route asks."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random, SystemRandom

from sanic import Request

from pgw.razorpay_simulator.book import SimulatorBook
from pgw.razorpay_simulator.clock import SimulatorClock
from pgw.razorpay_simulator.faults import Faults, SimulatedFault
from pgw.razorpay_simulator.webhooks import Webhooks

KEY_ID = "rzp_test_pgw"
KEY_SECRET = "sandbox"  # noqa: S105  # it guards no money, and it is printed


@dataclass(frozen=True, slots=True)
class Simulator:
    """One fake gateway."""

    book: SimulatorBook
    faults: Faults
    clock: SimulatorClock
    webhooks: Webhooks


def new_simulator(
    clock: SimulatorClock,
    *,
    standing: Iterable[SimulatedFault] = (),
    approve_after_s: float | None = None,
    rng: Random | None = None,
) -> Simulator:
    """Open an empty book. Without `approve_after_s` a payment is approved by a call only."""
    draws = rng or SystemRandom()
    book = SimulatorBook(clock.now, draws, approve_after_s)
    return Simulator(book, Faults(standing), clock, Webhooks(book, clock, draws))


def simulator_of(request: Request) -> Simulator:
    """Return the sandbox that this request is for."""
    sandbox: Simulator = request.app.ctx.sandbox
    return sandbox
