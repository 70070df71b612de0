"""`pgw key` -> merchants' keys: one made and shown once, those there are, one revoked for good."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from pgw.cli.exits import CommandError, Exit
from pgw.cli.lazy import examples, group
from pgw.cli.transport.client import actor
from pgw.cli.transport.stores import on_store, read, write
from pgw.cli.views.screen import FIELD_COLUMNS, Column, Row, Screen, fields_of, plain
from pgw.cli.views.timeline import timestamp
from pgw.settings import Settings

if TYPE_CHECKING:
    from pgw.core.ledger.keys import MerchantKey

app = group("Make, list and revoke the keys that merchants pay with.")

REASON = typer.Option("unspecified", "--reason", metavar="TEXT", help="Why; kept in the audit log.")

COLUMNS = (
    plain("key_id"),
    plain("merchant", "merchant_id"),
    Column("state", lambda key: "live" if key["revoked_at"] is None else "revoked"),
    Column("created_at", lambda key: timestamp(key["created_at"], 0)),
    plain("created_by"),
    Column("revoked_at", lambda key: timestamp(key["revoked_at"], 0)),
    plain("revoked_by"),
)

LONGEST_MERCHANT_ID = 64
LONGEST_REASON = 500

_KEY_ID = re.compile(r"[0-9a-f]{12}")


@app.command(epilog=examples("pgw key create m_001 -o json | jq -r .key", "pgw key create m_001 -q | tee m_001.key"))
def create(
    merchant: str = typer.Argument(metavar="MERCHANT", help="Merchant id, as its payments name it."),
    reason: str = REASON,
) -> Screen:
    """Make a key for a merchant, and show it this once.

    Of the key only a digest is kept. Running servers take it within two seconds. A merchant has at most two live keys:
    make the second, let the merchant change over, revoke the first.
    """
    _check(merchant, reason)
    settings = on_store()
    from pgw.core.flow.runtime.merchant_keys import create as make  # noqa: PLC0415  # sqlalchemy

    environment = "production" if settings.production else "development"
    key, made = _by_us(settings, make, merchant, environment, actor(), reason)
    document = {**_document(made), "key": key}
    return Screen(
        document=document,
        columns=(plain("key"),),
        rows=[document],
        names=(key,),
        above=(f"key {made.key_id} of {merchant}; sent as 'Authorization: Bearer <key>'",),
        below=("keep it now: it cannot be shown again", f"undo: pgw key revoke {made.key_id}"),
    )


@app.command("list", epilog=examples("pgw key list", "pgw key list --merchant m_001 --all -o json"))
def list_some(
    *,
    merchant: str | None = typer.Option(None, "--merchant", help="Only this merchant's."),
    everything: bool = typer.Option(False, "--all", help="Revoked ones too."),
) -> Screen:
    """List live keys, newest first.

    Nothing shown here can be used to pay: of a key only its id is shown.
    """
    settings = on_store()
    from pgw.core.ledger.keys import MAX_LISTED, listed  # noqa: PLC0415  # sqlalchemy

    found = read(
        settings, lambda connection: listed(connection, merchant, with_revoked=everything, limit=MAX_LISTED + 1)
    )
    rows = [_document(each) for each in found[:MAX_LISTED]]
    below = [] if rows else ["there is no key" if everything else "there is no live key"]
    if len(found) > MAX_LISTED:
        below.append(f"the newest {MAX_LISTED}; --merchant shows those of one")
    return Screen(
        document={"items": rows, "next": None},
        columns=COLUMNS,
        rows=rows,
        names=[row["key_id"] for row in rows],
        below=tuple(below),
        exit_code=Exit.PARTIAL if len(found) > MAX_LISTED else Exit.DONE,
    )


@app.command(epilog=examples("pgw key revoke 5d0c4f9be2a1", "pgw key revoke 5d0c4f9be2a1 --reason 'changed over'"))
def revoke(
    key_id: str = typer.Argument(metavar="KEY_ID", help="Id of a key, as 'pgw key list -q' prints it."),
    reason: str = REASON,
) -> Screen:
    """Revoke a key for good.

    It stops working on running servers within two seconds. One that is revoked already stays as it is.
    """
    if not _KEY_ID.fullmatch(key_id):
        # Not repeated: it may be the key itself.
        raise CommandError(Exit.NOT_FOUND, "that is no key's id, which has 12 of 0-9 and a-f ('pgw key list' shows it)")
    _check(None, reason)
    settings = on_store()
    from pgw.core.flow.runtime.merchant_keys import revoke as end  # noqa: PLC0415  # sqlalchemy

    document = _document(_by_us(settings, end, key_id, actor(), reason))
    text = f"key {key_id} of {document['merchant_id']} is revoked"
    return Screen(document=document, columns=FIELD_COLUMNS, rows=fields_of(document), names=(key_id,), above=(text,))


def _check(merchant: str | None, reason: str) -> None:
    """Refuse what no payment could name, and a reason that holds what must not be kept."""
    from pgw.core.payment.card_data import in_text  # noqa: PLC0415  # msgspec
    from pgw.core.payment.payment import is_clean  # noqa: PLC0415

    for name, text, longest in (("MERCHANT", merchant, LONGEST_MERCHANT_ID), ("--reason", reason, LONGEST_REASON)):
        if text is not None and not (1 <= len(text) <= longest and is_clean(text)):
            raise CommandError(Exit.USAGE, f"{name} must be 1 to {longest} printable characters")
        if text is not None and in_text(text):
            raise CommandError(Exit.USAGE, f"{name} holds a card number, which pgw does not keep")


def _by_us(settings: Settings, work: Callable[..., Any], *given: Any) -> Any:
    """Run what writes, with this machine's clock and the system's randomness."""
    from pgw.core.flow.runtime.clock import SystemClock  # noqa: PLC0415  # sqlalchemy
    from pgw.core.flow.runtime.entropy import Entropy  # noqa: PLC0415

    return write(settings, lambda ledger: work(ledger, SystemClock(), Entropy(), *given))


def _document(key: "MerchantKey") -> dict[str, Any]:
    from msgspec import to_builtins  # noqa: PLC0415

    document: Row = to_builtins(key)
    return dict(document)
