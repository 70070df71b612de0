"""`pgw rebuild` -> the shared hot state anew from the ledger, and what it had held wrong."""

import asyncio
from typing import TYPE_CHECKING

import typer

from pgw.cli.exits import CommandError, Exit
from pgw.cli.lazy import examples, group
from pgw.cli.transport.stores import current_store
from pgw.cli.views.screen import Screen, plain
from pgw.settings import Settings, load

if TYPE_CHECKING:
    from pgw.core.flow.metrics.rebuild import Rebuilt

app = group("Count the last hour anew from the ledger, put back lost breakers.")

COLUMNS = (
    plain("gateway", "gateway_id"),
    plain("method", "payment_method"),
    plain("bank", "issuing_bank"),
    plain("counter"),
    plain("held", right=True),
    plain("counted", right=True),
    plain("slice", right=True),
)


@app.command(epilog=examples("pgw rebuild", "pgw rebuild --stream"))
def rebuild(
    stream: bool = typer.Option(
        False, "--stream", help="Begin the stream anew too: after the ledger was restored from a backup."
    ),
) -> Screen:
    """Count the last hour anew from the ledger, put back lost breakers.

    Shows every counter that Redis held otherwise. Servers and workers may go on meanwhile; a Redis that lost all is
    rebuilt by the workers themselves.
    """
    settings = load()
    current_store(settings)
    if settings.redis_url is None:
        words = "there is nothing shared to rebuild: without REDIS_URL 'pgw serve' counts anew from the ledger at start"
        return Screen(document={"rebuilt": False}, columns=COLUMNS, rows=[], names=(), below=(words,))
    from pgw.core.ports import HotUnavailable  # noqa: PLC0415  # msgspec

    try:
        found = asyncio.run(_rebuild(settings, anew=stream))
    except HotUnavailable as fault:
        raise CommandError(Exit.ABSENT, f"{settings.redis_place} does not answer ({fault}): is it running?") from None
    return _screen(found)


async def _rebuild(settings: Settings, *, anew: bool) -> "Rebuilt":
    from pgw.assembly import open_hot  # noqa: PLC0415  # sqlalchemy, redis
    from pgw.core.flow.metrics.rebuild import rebuild as run  # noqa: PLC0415
    from pgw.core.flow.runtime.clock import SystemClock  # noqa: PLC0415
    from pgw.core.ledger.engine.ledger import OpenLedger  # noqa: PLC0415
    from pgw.core.ledger.engine.store import identity  # noqa: PLC0415

    clock = SystemClock()
    ledger, hot = OpenLedger(settings.database), open_hot(settings, clock)
    assert hot.stream is not None, "a Redis has a stream"
    try:
        return await run(ledger, await ledger.read(identity), hot.state, hot.stream, clock, anew=anew)
    finally:
        await hot.state.close()
        await ledger.close()


def _screen(found: "Rebuilt") -> Screen:
    from msgspec import to_builtins  # noqa: PLC0415

    document = {"rebuilt": True, **to_builtins(found)}
    above = [f"{found.events} events counted up to number {found.base} in {found.seconds:.1f} s"]
    if found.breakers:
        above.append(f"{found.breakers} breakers put back")
    return Screen(
        document=document,
        columns=COLUMNS,
        rows=document["differences"],
        names=(),
        above=tuple(above),
        below=tuple(_text(found)),
    )


def _text(found: "Rebuilt") -> list[str]:
    if found.was_lost:
        return ["Redis held nothing of this ledger: there was nothing to compare with"]
    words = [f"{found.differing} counters differed" if found.differing else "no counter differed"]
    if found.differing > len(found.differences):
        words.append(f"the first {len(found.differences)} are shown")
    if found.under_way:
        words.append(f"{found.under_way} events were on their way to be counted, which is among the differences")
    return words
