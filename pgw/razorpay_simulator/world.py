"""A clock, faults, a way to approve -> the sandbox that every route asks."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random, SystemRandom

from sanic import Request

from pgw.razorpay_simulator.book import Book
from pgw.razorpay_simulator.clock import Clock
from pgw.razorpay_simulator.faults import Fault, Faults
from pgw.razorpay_simulator.webhooks import Webhooks

KEY_ID = "rzp_test_pgw"
KEY_SECRET = "sandbox"  # noqa: S105  # it guards no money, and it is printed


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One fake gateway."""

    book: Book
    faults: Faults
    clock: Clock
    webhooks: Webhooks


def new_sandbox(
    clock: Clock,
    *,
    standing: Iterable[Fault] = (),
    approve_after_s: float | None = None,
    rng: Random | None = None,
) -> Sandbox:
    """Open an empty book. Without `approve_after_s` a payment is approved by a call only."""
    draws = rng or SystemRandom()
    book = Book(clock.now, draws, approve_after_s)
    return Sandbox(book, Faults(standing), clock, Webhooks(book, clock, draws))


def sandbox_of(request: Request) -> Sandbox:
    """Return the sandbox that this request is for."""
    sandbox: Sandbox = request.app.ctx.sandbox
    return sandbox
