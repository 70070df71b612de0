"""A clock, faults, a way to approve -> the sandbox that every route asks."""

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from datetime import datetime
from random import Random, SystemRandom
from typing import Protocol

from sanic import Request

from pgw.sandbox.book import Book
from pgw.sandbox.faults import Fault, Faults

KEY_ID = "rzp_test_pgw"
KEY_SECRET = "sandbox"  # noqa: S105  # it guards no money, and it is printed


class Clock(Protocol):
    """The time, which a test moves by hand."""

    def now(self) -> datetime:
        """Return the moment in UTC."""

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One fake gateway."""

    book: Book
    faults: Faults
    clock: Clock


def new_sandbox(
    clock: Clock,
    *,
    standing: Iterable[Fault] = (),
    approve_after_s: float | None = None,
    rng: Random | None = None,
) -> Sandbox:
    """Open an empty book. Without `approve_after_s` a payment is approved by a call only."""
    return Sandbox(Book(clock.now, rng or SystemRandom(), approve_after_s), Faults(standing), clock)


def sandbox_of(request: Request) -> Sandbox:
    """Return the sandbox that this request is for."""
    sandbox: Sandbox = request.app.ctx.sandbox
    return sandbox
