"""A configuration, what to drill -> its Scorecard: a private world is opened, paid in, broken, mended and settled."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import structs

from pgw.core.flow.verification.late_capture import monitor_due
from pgw.core.flow.verification.verify import verify_due
from pgw.core.ledger.configuration import GATEWAY, RAZORPAY
from pgw.core.metrics.counters import SLICE_S
from pgw.core.routing.plan import Snapshot
from pgw.drill.clock import MovableClock
from pgw.drill.cut import line_to_redis
from pgw.drill.double import QUICK_MS, SLOWER_MS
from pgw.drill.private import NEW, as_served, copy_of, target
from pgw.drill.records import calls, ends, has_opened, open_payments
from pgw.drill.scenario import AFTER_NO_GATEWAY_S, FAULTS, DrillKind, Timing, scaling_text
from pgw.drill.scorecard import (
    Observations,
    PaymentAnswer,
    Scorecard,
    Span,
    Storm,
    current_after,
    recovered_after,
    score,
)
from pgw.drill.stage import ACTOR, DrillRequest, Stage, staged

SKIP_S, MOST_SKIPS = 300.0, 24
"""The clock is moved on by so much at a time, and at most for two hours, until every payment has its end."""

BREATH_S, MOST_ROUNDS = 2.0, 200
"""Between two rounds of checks, for the pace of enquiries; and how many there are at most between two skips."""

LOOK_EVERY_S = 1.0
STILL_S = 2.0
"""How long a gateway that is back is watched before the load ends."""

CLEAR_OF_IT_S = 1.0
"""How far into the new slice: an incident is dated by the beginning of its first calls."""

LOOK_AGAIN_S = 0.6
"""What the loops need to have looked at everything under the new time."""

Progress = Callable[[str], None]


def drill(order: DrillRequest, report: Progress) -> Scorecard:
    """Run one drill; `report` is called with its course. Raises PgwError for every reason it cannot be run."""
    with TemporaryDirectory(prefix="pgw-drill-") as folder, _quiet():
        return asyncio.run(_drill(order, Path(folder), report))


async def _drill(order: DrillRequest, folder: Path, report: Progress) -> Scorecard:
    clock = MovableClock()
    now = clock.now()
    real = as_served(order.configuration, now)
    copy = copy_of(real, order.timing, order.timeout_ms)
    told_by_webhook = copy.gateway(RAZORPAY.gateway_id)
    named = order.gateway_id
    if order.kind is DrillKind.WEBHOOK_STORM and told_by_webhook is not None and told_by_webhook.is_enabled:
        named = told_by_webhook.gateway_id
    gateway_id, request, others = target(copy, named, now)
    notes = [
        f"the fault: {FAULTS[order.kind]}",
        "private copy: the configuration of "
        + ("a new development ledger" if real.config_version == NEW else "the ledger")
        + "; a double for each gateway; payments are made in this process, without HTTP",
        scaling_text(order.timing, real.scoring.breaker, copy.scoring.breaker),
    ]
    if order.kind.is_of_a_gateway:
        notes.append(
            f"{gateway_id} is made to lead: it answers in {QUICK_MS} ms and the others in {SLOWER_MS} ms, and it takes "
            "the first payments alone; the clock is moved on before the fault, so that calm and fault are counted apart"
        )
    if not others:
        notes.append(f"no other gateway takes these payments: what leaves {gateway_id} has nowhere to go")
    async with AsyncExitStack() as stack:
        line = None
        if order.kind is DrillKind.REDIS_LOSS:
            line = await stack.enter_async_context(line_to_redis(order.redis_url, folder))
        stage = await stack.enter_async_context(staged(order, folder, clock, copy, gateway_id, request, line))
        report(f"drill {order.kind}: {gateway_id} leads; at most {_longest_s(order.timing):.0f} s")
        return await _play(stage, gateway_id, notes, report)


async def _play(stage: Stage, gateway_id: str, notes: list[str], report: Progress) -> Scorecard:
    order, load, timing = stage.order, stage.load, stage.order.timing
    await _enable(stage, stage.others, wanted=False)
    await load.send(timing.warm_s)
    await _enable(stage, stage.others, wanted=True)
    calm = load.now
    await load.send(timing.calm_s)
    if order.kind.is_of_a_gateway:
        await _into_a_new_slice(stage)
    fault = load.now
    report(f"fault: {FAULTS[order.kind]}")
    storm = await _broken(stage)
    heal = load.now
    report("healed")
    drilled = gateway_id if order.kind.is_of_a_gateway else None
    await _wait_for_recovery(stage, drilled, Span(calm=calm, fault=fault, heal=heal, end=heal))
    span = Span(calm=calm, fault=fault, heal=heal, end=load.now)
    report("settling")
    await load.finish()
    skipped_s = await _settle(stage)
    if skipped_s:
        notes.append(f"the drill's clock was moved on by {skipped_s / 60:.0f} min after the load, to see payments end")
    if load.asked_again:
        notes.append(f"{load.asked_again} payments without an end were asked for again, under the same key")
    opened = drilled is not None and await stage.runtime.ledger.read(has_opened, drilled, span.fault)
    if drilled is not None and not opened:
        notes.append(
            f"the breaker of {drilled} stayed closed: the score moved the payments before enough of them had failed; "
            "no payment is sent to a gateway only to find out whether it is well again"
        )
    return score(
        Observations(
            kind=order.kind,
            gateway_id=drilled,
            span=span,
            bucket_s=timing.bucket_s,
            answers=load.answers,
            calls=await stage.runtime.ledger.read(calls, span.calm),
            ends=await stage.runtime.ledger.read(ends),
            charges=stage.runtime.book.charges(stage.clock.now()),
            opened=opened,
            storm=storm,
            notes=tuple(notes),
        )
    )


async def _into_a_new_slice(stage: Stage) -> None:
    """Move the clock on, with nothing under way, so that no slice holds calls from before the fault and from after it.

    A slice that touches an incident is left out of what a gateway scores by; a server that has run for a minute has
    whole ones from before it, a drill would have to wait for them.
    """
    await stage.load.finish()
    stage.clock.skip(SLICE_S - stage.load.now % SLICE_S + CLEAR_OF_IT_S)
    await asyncio.sleep(LOOK_AGAIN_S)


async def _broken(stage: Stage) -> Storm | None:
    """Go on paying while something is wrong."""
    load, fault_s = stage.load, stage.order.timing.fault_s
    if stage.double is not None:
        stage.double.fault = stage.order.kind
        await load.send(fault_s)
        stage.double.fault = None
        return None
    if stage.line is not None:
        await stage.line.cut()
        await load.send(fault_s)
        await stage.line.empty()
        await stage.line.mend()
        return None
    # Sanic, which only this drill needs.
    from pgw.drill.storm import Weather, webhook_address  # noqa: PLC0415

    async with webhook_address(stage.runtime) as address:
        weather = Weather(address, stage.runtime.settings.razorpay_webhook_secrets[0], load.answers)
        weather.begin()
        try:
            await load.send(fault_s)
        finally:
            storm = await weather.calm()
    return storm


async def _wait_for_recovery(stage: Stage, gateway_id: str | None, healed: Span) -> None:
    """Go on paying until all is as before, for so long as the drill may take."""
    load, timing = stage.load, stage.order.timing
    longest_s = timing.after_s if gateway_id is not None else min(timing.after_s, AFTER_NO_GATEWAY_S)
    looks = round((longest_s - STILL_S) / LOOK_EVERY_S)
    for _ in range(max(1, looks)):
        await load.send(LOOK_EVERY_S)
        span = structs.replace(healed, end=load.now)
        if gateway_id is not None:
            found = await stage.runtime.ledger.read(calls, span.calm)
            is_back = recovered_after(found, gateway_id, span, timing.bucket_s) is not None
        else:
            is_back = _are_current(load.answers, span)
        if is_back:
            break
    await load.send(STILL_S)


def _are_current(answers: Sequence[PaymentAnswer], span: Span) -> bool:
    return current_after(answers, span) is not None


async def _enable(stage: Stage, gateway_ids: Sequence[str], *, wanted: bool) -> None:
    for name in gateway_ids:

        def change(snapshot: Snapshot, name: str = name) -> object:
            gateway = snapshot.gateway(name)
            assert gateway is not None, "it was copied"
            return structs.replace(gateway, is_enabled=wanted)

        await stage.runtime.snapshots.configure(GATEWAY + name, change, ACTOR, "warm-up")


async def _settle(stage: Stage) -> float:
    """Ask about every payment that has no end, later and later by the drill's own clock; return the time skipped."""
    runtime = stage.runtime
    began = stage.clock.skipped_s
    for _ in range(MOST_SKIPS):
        for _ in range(MOST_ROUNDS):
            if not await verify_due(runtime) + await monitor_due(runtime):
                break
            stage.clock.skip(BREATH_S)
        left = await runtime.ledger.read(open_payments)
        if not left:
            break
        stage.clock.skip(SKIP_S)
    return stage.clock.skipped_s - began


def _longest_s(timing: Timing) -> float:
    return timing.warm_s + timing.calm_s + timing.fault_s + timing.after_s


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings about faults that were ordered."""
    loggers = [logging.getLogger(name) for name in ("pgw", "sanic", "alembic")]
    both = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for each, level in zip(loggers, both, strict=True):
            each.setLevel(level)
