"""Redis, the outbox, operators' orders -> what `pgw doctor` says of them, each with the command that mends it."""

import asyncio
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from pgw.cli.views.breakers import breaker_of, contradicted, named
from pgw.cli.views.durations import left, now, span
from pgw.cli.views.messages import masked
from pgw.cli.views.screen import Row
from pgw.cli.views.timeline import timestamp
from pgw.settings import Settings

if TYPE_CHECKING:
    from pgw.core.hot.stream import Lag, StreamState
    from pgw.core.ledger.outbox import OutboxStatus

PROBLEM, NOTE, FINE = "problem", "note", "ok"

OLDEST_REDIS = (6, 2)
KEEPS_ALL = "noeviction"
BEHIND_AFTER_S = 60.0
"""Events are counted within a second; what waits so long needs an operator."""


def finding(check: str, status: str, detail: str) -> Row:
    """Return one finding. A library's words are in some of them, so secrets are masked here."""
    return {"check": check, "status": status, "detail": masked(detail)}


def of_redis(settings: Settings) -> Iterator[Row]:
    """Look at Redis: whether it answers, can be relied on, and is caught up with."""
    if settings.redis_url is None:
        if not settings.on_sqlite:
            yield finding("redis", NOTE, "breakers and metrics are in process: set REDIS_URL before a second server")
        return
    from pgw.core.ports import HotUnavailable  # noqa: PLC0415  # msgspec

    try:
        about, state, lag = asyncio.run(_answered(settings))
    except HotUnavailable as fault:
        yield finding("redis", PROBLEM, f"{settings.redis_place} does not answer ({fault}): is it running?")
        return
    yield _redis(settings, about)
    yield _stream(settings, state, lag)


async def _answered(settings: Settings) -> "tuple[dict[str, str], StreamState | None, Lag | None]":
    from pgw.core.hot.on_redis import connect  # noqa: PLC0415  # redis
    from pgw.core.hot.stream import Stream  # noqa: PLC0415

    assert settings.redis_url is not None, "asked only where there is one"
    server = connect(settings.redis_url)
    try:
        sections = await server.ask_together((("INFO", "server"), ("INFO", "memory")))
        stream = Stream(server, settings.stream_key, settings.stream_group)
        state = await stream.state()
        lag = None if state is None else await stream.lag()
    finally:
        await server.close()
    lines = [line.decode().partition(":") for section in sections for line in section.splitlines()]
    return {name: value for name, _, value in lines}, state, lag


def _redis(settings: Settings, about: dict[str, str]) -> Row:
    version, policy = about.get("redis_version", "unknown"), about.get("maxmemory_policy")
    numbers = tuple(int(each) for each in version.split(".")[:2] if each.isdecimal())
    if numbers < OLDEST_REDIS:
        return finding("redis", PROBLEM, f"{settings.redis_place} is version {version}: 6.2 is the oldest that will do")
    if policy is None:
        return finding("redis", NOTE, f"version {version}; its maxmemory-policy cannot be read, and must be noeviction")
    if policy != KEEPS_ALL:
        way = "run 'redis-cli CONFIG SET maxmemory-policy noeviction'"
        return finding("redis", PROBLEM, f"its maxmemory-policy {policy} may drop events and breakers: {way}")
    return finding("redis", FINE, f"{settings.redis_place}, version {version}, {KEEPS_ALL}")


def _stream(settings: Settings, state: "StreamState | None", lag: "Lag | None") -> Row:
    if state is None or lag is None:
        way = "the next relay, of 'pgw serve' or 'pgw worker metrics', begins it from the ledger"
        return finding("stream", NOTE, f"{settings.stream_key} is not there: {way}")
    text = f"{settings.stream_key} at {state.top}: {lag.waiting} not delivered, {lag.pending} not counted yet"
    idle_s = lag.oldest_idle_ms / 1000
    if lag.waiting + lag.pending and idle_s > BEHIND_AFTER_S:
        return finding("stream", PROBLEM, f"{text}, the oldest for {span(idle_s)}: run 'pgw worker metrics'")
    return finding("stream", FINE, text)


def of_outbox(settings: Settings, *, is_served: bool) -> Iterator[Row]:
    """Check the events of the ledger: what waits to be published, and what could not be counted."""
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    from pgw.core.ledger.engine.store import open_engine  # noqa: PLC0415
    from pgw.core.ledger.outbox import status  # noqa: PLC0415  # sqlalchemy

    engine = open_engine(settings.database)
    try:
        with engine.connect() as connection:
            outbox = status(connection)
    except DBAPIError as fault:
        yield finding("outbox", PROBLEM, f"cannot be read ({type(fault.orig).__name__}): is the database running?")
        return
    finally:
        engine.dispose()
    yield _waiting(outbox, now(), must_move=is_served or not settings.on_sqlite)
    if outbox.dead:
        yield finding("outbox:dead", PROBLEM, f"{outbox.dead} events could not be counted: see 'pgw outbox dead'")


def _waiting(outbox: "OutboxStatus", at: datetime, *, must_move: bool) -> Row:
    if outbox.oldest_at is None:
        return finding("outbox", FINE, f"nothing waits, {outbox.last_published} events published")
    age_s = (at - outbox.oldest_at).total_seconds()
    events = "event waits" if outbox.waiting == 1 else "events wait"
    text = f"{outbox.waiting} {events}, the oldest for {span(max(age_s, 0.0))}"
    if age_s <= BEHIND_AFTER_S:
        return finding("outbox", FINE, text)
    return finding(
        "outbox", PROBLEM if must_move else NOTE, f"{text}: 'pgw serve' or 'pgw worker metrics' publishes them"
    )


def of_operator_commands(breakers: Iterable[Row]) -> Iterator[Row]:
    """Report every forced breaker with its end; one that the rule contradicts sends money to a failing gateway."""
    at = now()
    for row in breakers:
        order = row["override"]
        if order is None:
            continue
        name = breaker_of(row)
        warning = contradicted(row)
        if warning:
            yield finding(f"breaker:{name}", PROBLEM, warning)
            continue
        end = f"until {timestamp(order['expires_at'], 0)} (in {left(order['expires_at'], at)})"
        way = f"'pgw breaker clear {row['gateway_id']} {row['payment_method']}' ends it"
        detail = f"{named(order['state'])[2:].lower()} by {order['actor']} ({order['reason']}) {end}: {way}"
        yield finding(f"breaker:{name}", NOTE, detail)
