"""`pgw score` -> how the gateways rank for a payment that is not made."""

import typer

from pgw.cli.lazy import examples, group
from pgw.cli.transport.client import connect
from pgw.cli.views.ranking import COLUMNS, advantage_of, excluded_lines, ranked_rows
from pgw.cli.views.screen import Screen

app = group("Show how the gateways rank for a payment, without making one.")


@app.command(
    epilog=examples("pgw score --amount 1000 --method UPI", "pgw score --amount 250000 --method CARD --bank HDFC")
)
def score(
    amount: int = typer.Option(..., "--amount", help="Amount in minor units: 1000 is INR 10.00."),
    method: str = typer.Option(..., "--method", metavar="METHOD", help="UPI, CARD or NETBANKING."),
    bank: str | None = typer.Option(
        None, "--bank", metavar="BANK", help="Issuing bank, such as HDFC; unknown if unset."
    ),
) -> Screen:
    """Show how the gateways rank for a payment, without making one.

    Each term is its weight times its value; together they are the score.
    """
    query = {
        "amount_minor": amount,
        "payment_method": method.upper(),
        "issuing_bank": bank.upper() if bank else None,
    }
    with connect() as api:
        document = api.get("/scoring/debug", **query)
    ranked = document["ranked"]
    above = () if ranked else ("no gateway can take this payment",)
    if len(ranked) > 1:
        above = (f"{ranked[0]['gateway_id']} is {advantage_of(*ranked[:2])}",)
    return Screen(
        document=document,
        columns=COLUMNS,
        rows=ranked_rows(ranked),
        names=[each["gateway_id"] for each in ranked],
        above=above,
        below=excluded_lines(document["excluded"]),
    )
