"""A payment that waits for a person -> somebody's word on it, by the gateway's book: soon, late, or never."""

import asyncio
from random import Random

from sqlalchemy import select

from pgw.core.errors import Code, PgwError
from pgw.core.flow.verification.resolve import resolve
from pgw.core.ledger.resolutions import last_called
from pgw.core.ledger.tables import payments, transfers
from pgw.core.money.transfer import TransferKind
from pgw.core.ports import Reference
from pgw.core.writes.resolution import Resolution, ResolvedAs
from tests.simulation.scene import Run
from tests.simulation.weather import DAY_S, pick

TRIES = 20
LATEST_WORD_S = 1.5 * DAY_S


def called(run: Run, payment_id: str) -> None:
    """Draw who looks at a payment that a machine gave up on, and when: mostly one, sometimes two, sometimes nobody."""
    rng = Random(f"{run.seed}:people:{payment_id}")
    if rng.random() >= run.weather.people:
        return
    for _ in range(rng.choice((1, 1, 1, 2))):
        soon = ((2, rng.uniform(0.1, 30)), (2, rng.uniform(30, 3600)), (1, rng.uniform(3600, LATEST_WORD_S)))
        run.let_loose(_judge(run, rng, payment_id, pick(rng, soon)))


async def _judge(run: Run, rng: Random, payment_id: str, after_s: float) -> None:
    await asyncio.sleep(after_s)
    for _ in range(TRIES):
        said = _word(run, rng, payment_id)
        if (heard := await _say(run, payment_id, said)) is not None:
            run.publish(f"a person says {said.outcome} of {payment_id}: {heard}")
            return
        await asyncio.sleep(rng.uniform(1, 120))


async def _say(run: Run, payment_id: str, said: Resolution) -> str | None:
    """Tell it to a process that is there; None: it was not heard, as far as anybody knows."""
    there = [each for _, each in sorted(run.houses.items())]
    if not there:
        return None
    runtime = run.rng.choice(there)
    try:
        payment = await runtime.process.ask(lambda: resolve(runtime.deps, payment_id, said))
    except PgwError as fault:
        return fault.detail if fault.code is Code.CONFLICT else None
    except ConnectionResetError:
        return None
    return f"it is {payment.status}"


def _word(run: Run, rng: Random, payment_id: str) -> Resolution:
    outcome = ResolvedAs.SUCCESS if has_money(run, payment_id) and rng.random() < 0.6 else ResolvedAs.FAILURE
    return Resolution(outcome=outcome, actor="asha", reason="the gateway's book", evidence=None)


def has_money(run: Run, payment_id: str) -> bool:
    """Whether the gateway keeps just what the ledger would give the merchant: what is in suspense, else the amount."""
    connection = run.store.memory.connection
    attempt = last_called(connection, payment_id)
    asked = connection.execute(
        select(payments.c.amount_minor, payments.c.currency).where(payments.c.payment_id == payment_id)
    ).one()
    held = connection.execute(
        select(transfers.c.amount_minor, transfers.c.currency).where(
            transfers.c.payment_id == payment_id,
            transfers.c.attempt_number == attempt.attempt_number,
            transfers.c.kind == TransferKind.UNMATCHED,
        )
    ).one_or_none()
    now = run.book.now()
    charges = run.book.of(attempt.gateway_id, Reference(payment_id, attempt.attempt_number))
    return [(each.net(now), each.currency) for each in charges if each.net(now)] == [tuple(held or asked)]
