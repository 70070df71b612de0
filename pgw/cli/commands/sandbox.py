"""`pgw sandbox` -> a server that speaks Razorpay's API without money, until it is stopped."""

import re

import typer

from pgw.cli.exits import CommandError, Exit
from pgw.cli.lazy import examples, group
from pgw.razorpay_simulator.faults import SimulatedFault

app = group("Play Razorpay: its API, no money, faults on command.")

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0}


@app.command(
    epilog=examples(
        "pgw sandbox",
        "pgw sandbox --approve-after 1s",
        "pgw sandbox --bind 127.0.0.1:0 --fault commit_then_hang",
        "pgw sandbox --webhook http://127.0.0.1:3000/webhooks/razorpay",
    )
)
def sandbox(
    bind: str = typer.Option(
        "127.0.0.1:4010", "--bind", metavar="HOST:PORT", help="Where it listens: this machine only; port 0 is any free."
    ),
    fault: list[str] = typer.Option(
        [],
        "--fault",
        metavar="NAME",
        help=f"What goes wrong at every charging call, in turn: {', '.join(SimulatedFault)}.",
    ),
    approve_after: str | None = typer.Option(
        None, "--approve-after", metavar="1s", help="When customers pay by themselves; by a call only if unset."
    ),
    webhook: str | None = typer.Option(
        None, "--webhook", metavar="URL", help="Where webhooks go, on this machine; PUT /sandbox/webhooks more."
    ),
) -> None:
    """Play Razorpay: its API, no money, faults on command.

    The first line on stdout starts pgw against it. PUT /sandbox/faults sets faults, POST /sandbox/payments/ID/approve
    plays the customer, GET /sandbox/book shows who got what. Nothing is kept.
    """
    if unknown := [name for name in fault if name not in set(SimulatedFault)]:
        raise CommandError(Exit.USAGE, f"there is no fault {', '.join(unknown)}: there are {', '.join(SimulatedFault)}")
    seconds = None if approve_after is None else _seconds(approve_after)
    from pgw.razorpay_simulator.run import serve  # noqa: PLC0415  # sanic: only when there is work for it
    from pgw.razorpay_simulator.webhooks import Target, loopback_of  # noqa: PLC0415  # likewise

    if webhook is not None and loopback_of(webhook) is None:
        raise CommandError(
            Exit.USAGE, "--webhook must be http:// to this machine: what it sends is about no real money"
        )
    target = None if webhook is None else Target(url=webhook)
    serve(bind, faults=[SimulatedFault(name) for name in fault], approve_after_s=seconds, target=target)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)(ms|s|m)", text)
    if found is None:
        raise CommandError(Exit.USAGE, "--approve-after must be a time such as 500ms, 1s or 2m")
    return float(found[1]) * _UNITS_S[found[2]]
