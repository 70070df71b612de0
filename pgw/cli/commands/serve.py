"""`pgw serve` -> the API, until it is stopped."""

import typer

from pgw.cli.exits import CommandError, Exit
from pgw.cli.lazy import examples, group
from pgw.settings import load

app = group("Take payments: the API, with its workers.")


@app.command(
    epilog=examples(
        "pgw serve",
        "pgw serve --bind 127.0.0.1:8080 --gateways hdfc,icici",
        "DATABASE_URL=postgres://pgw@db/pgw pgw serve --no-embedded-workers",
    )
)
def serve(
    bind: str | None = typer.Option(
        None,
        "--bind",
        metavar="HOST:PORT",
        help="Where the API listens (BIND_ADDR; 127.0.0.1:3000, or 0.0.0.0:3000 with an INTERNAL_API_KEY of your own).",
    ),
    no_embedded_workers: bool = typer.Option(
        False, "--no-embedded-workers", help="Answer requests only; the workers run elsewhere."
    ),
    gateways: str | None = typer.Option(
        None,
        "--gateways",
        metavar="A,B",
        help="Only these take new payments in this process; the ledger is not changed.",
    ),
) -> None:
    """Take payments: the API, with its workers.

    The ledger is DATABASE_URL, else the SQLite file in PGW_HOME, made on the first start.
    SIGTERM drains within PGW_DRAIN_SECONDS.
    """
    chosen = None if gateways is None else frozenset(name.strip() for name in gateways.split(","))
    if chosen is not None and "" in chosen:
        raise CommandError(Exit.USAGE, "--gateways has an empty name: give ids such as --gateways hdfc,icici")
    settings = load(bind=bind)
    from pgw.server.run import serve as serve_until_told  # noqa: PLC0415  # sanic: only when there is work for it

    serve_until_told(settings, gateways=chosen, embedded_workers=not no_embedded_workers)
