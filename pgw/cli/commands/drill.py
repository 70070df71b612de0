"""`pgw drill` -> a scorecard of one fault, on a private copy of the configuration, with doubles for the gateways."""

from typing import TYPE_CHECKING, Any

import typer

from pgw.cli.exits import CommandError, Exit
from pgw.cli.lazy import examples, group
from pgw.cli.transport.stores import current_store, read
from pgw.cli.views.messages import say
from pgw.cli.views.screen import Row, Screen, percent, plain, text_of
from pgw.settings import Settings, load

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pgw.core.routing.plan import Snapshot

app = group(
    "Rehearse a fault on a private copy, and see what it costs.\n\n"
    "A drill reads the configuration and touches nothing else of the ledger; no gateway is called. Refused in "
    "production."
)

GATEWAY = typer.Option(None, "--gateway", metavar="X", help="The gateway that fails; the first in the plan if unset.")
FAST = typer.Option(
    False, "--fast", help="Breaker and attempt times scaled down: 20 s instead of a minute, and the figures with them."
)

COLUMNS = (plain("figure"), plain("value", folds=True))


@app.command(epilog=examples("pgw drill outage", "pgw drill outage --gateway hdfc --fast -o json"))
def outage(gateway: str | None = GATEWAY, fast: bool = FAST) -> Screen:
    """Let a gateway refuse every connection."""
    return _drilled("outage", gateway, fast=fast)


@app.command(epilog=examples("pgw drill brownout", "pgw drill brownout --gateway hdfc --fast"))
def brownout(gateway: str | None = GATEWAY, fast: bool = FAST) -> Screen:
    """Let a gateway be slow, and fail six charges in ten."""
    return _drilled("brownout", gateway, fast=fast)


@app.command(epilog=examples("pgw drill timeout", "pgw drill timeout --gateway hdfc --fast"))
def timeout(gateway: str | None = GATEWAY, fast: bool = FAST) -> Screen:
    """Let a gateway never answer.

    Half of the charges have moved the money, and it cannot be asked either.
    """
    return _drilled("timeout", gateway, fast=fast)


@app.command("lost-response", epilog=examples("pgw drill lost-response", "pgw drill lost-response --fast -o md"))
def lost_response(gateway: str | None = GATEWAY, fast: bool = FAST) -> Screen:
    """Let a gateway move the money, and lose every answer."""
    return _drilled("lost-response", gateway, fast=fast)


@app.command("webhook-storm", epilog=examples("pgw drill webhook-storm", "pgw drill webhook-storm --fast"))
def webhook_storm(fast: bool = FAST) -> Screen:
    """Storm the webhooks while payments go on.

    As many as are answered: new, again, forged, in the wrong order.
    """
    return _drilled("webhook-storm", None, fast=fast)


@app.command(
    "redis-loss",
    epilog=examples("pgw drill redis-loss", "pgw drill redis-loss --redis redis://127.0.0.1:6390/0 --fast"),
)
def redis_loss(
    redis: str | None = typer.Option(
        None,
        "--redis",
        metavar="URL",
        help="An empty throw-away Redis, which the drill empties again; redis-server from PATH if unset.",
    ),
    fast: bool = FAST,
) -> Screen:
    """Cut the way to Redis, and lose all it held."""
    if redis is not None and not redis.startswith("redis://"):
        raise CommandError(Exit.USAGE, "--redis must read redis://HOST:PORT/N")
    return _drilled("redis-loss", None, redis=redis, fast=fast)


def _drilled(kind: str, gateway: str | None, *, redis: str | None = None, fast: bool) -> Screen:
    settings = load()
    if settings.production:
        raise CommandError(
            Exit.REFUSED, "a drill is refused in production (PGW_ENV): run it elsewhere, on a copy of the configuration"
        )
    if redis is not None and redis == settings.redis_url:
        raise CommandError(Exit.REFUSED, "--redis is REDIS_URL, and the drill would empty it: name a throw-away one")
    configuration = _configuration(settings)
    from pgw.drill import run  # noqa: PLC0415  # sqlalchemy
    from pgw.drill.scenario import DrillKind, timing_of  # noqa: PLC0415  # msgspec
    from pgw.drill.stage import DrillRequest  # noqa: PLC0415  # sqlalchemy

    order = DrillRequest(
        kind=DrillKind(kind),
        timing=timing_of(DrillKind(kind), fast=fast),
        configuration=configuration,
        timeout_ms=settings.gateway_timeout_ms,
        gateway_id=gateway,
        redis_url=redis,
    )
    return screen(run.drill(order, say))


def _configuration(settings: Settings) -> "Snapshot | None":
    """Read the configuration of the ledger there is; None where there is no embedded one, and no other is named."""
    if settings.on_sqlite and not (settings.home / "pgw.db").is_file():
        return None
    current_store(settings)
    from datetime import UTC, datetime  # noqa: PLC0415

    from pgw.core.flow.runtime.snapshot import replayed  # noqa: PLC0415  # sqlalchemy
    from pgw.core.ledger.configuration import as_of, head  # noqa: PLC0415  # sqlalchemy

    def current(connection: "Connection") -> "Snapshot":
        return replayed(as_of(connection, head(connection)), datetime.now(UTC))

    return read(settings, current)


def screen(card: Any) -> Screen:
    """Lay a scorecard out."""
    from msgspec import to_builtins  # noqa: PLC0415

    document: dict[str, Any] = to_builtins(card)
    rows = [{"figure": figure, "value": value} for figure, value in _figures(document)]
    exit_code = Exit.GATE if not card.passed else Exit.DONE if card.conclusive else Exit.PARTIAL
    return Screen(
        document=document,
        columns=COLUMNS,
        rows=rows,
        names=(document["verdict"],),
        above=tuple(document["notes"]),
        below=(f"{'✓' if card.passed and card.conclusive else '✕'} {document['verdict']}",),
        exit_code=exit_code,
    )


def _figures(card: Row) -> list[tuple[str, str]]:
    """Name the figures, in the order in which they happen."""
    gateway, kind = card["gateway_id"], card["drill"]
    figures = [("drill", kind), ("payments", text_of(card["payments"]))]
    if gateway is not None:
        share = card["share_before"]
        by = f", by its {card['left_by']}" if card["left_by"] else ""
        figures += [
            ("gateway", gateway),
            ("its share before", "none" if share is None else percent(share)),
            ("it was left after", _seconds(card["left_after_s"], "not while the fault lasted") + by),
            ("payments sent to it until then", text_of(card["met"])),
        ]
    elif kind == "redis-loss":
        figures += [
            ("noticed after", _seconds(card["left_after_s"], "not while the fault lasted")),
            ("decided before it was noticed", text_of(card["met"])),
        ]
    if (storm := card["storm"]) is not None:
        figures += [(f"webhooks {word}", text_of(number)) for word, number in storm.items()]
    ended = ", ".join(f"{number} {status}" for status, number in card["pending_ended"].items())
    figures += [
        ("payments failed", text_of(card["failed"])),
        ("payments refused, nothing charged", text_of(card["refused"])),
        ("payments left for verification", text_of(card["pending"])),
        *([("they ended", ended)] if ended else []),
    ]
    if gateway is not None:
        figures.append(("90 % of its share back after", _seconds(card["back_after_s"], "not within the drill")))
    elif kind == "redis-loss":
        figures.append(("decisions current again after", _seconds(card["back_after_s"], "not within the drill")))
    figures += [("charged twice", text_of(card["double_charges"])), ("lost", text_of(card["lost"]))]
    for phase in ("before", "during", "after"):
        took = card[phase]
        figures.append((f"p50, p99 {phase}", f"{took['p50_ms']} ms, {took['p99_ms']} ms" if took["payments"] else ""))
    return figures


def _seconds(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:.1f} s"
