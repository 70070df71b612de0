"""A verifier dies right before, or right after, each thing it does for a payment: another one ends it, once."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest

from pgw.core.ledger.tables import outbox, watches
from pgw.failpoints import CALLS, Side
from tests.seams.bank import bank
from tests.seams.crossings import CHECKING, WATCHING
from tests.seams.place import CHECK, Place, place
from tests.services import fresh_database

SOON = timedelta(minutes=1)
"""Later than any check's lease, sooner than the end of the customer's time to act."""

LATER = timedelta(hours=2)
"""Until a watch is looked at again."""

pytestmark = pytest.mark.slow


def _on_each(crossings: Sequence[str]) -> list[tuple[str, str, str]]:
    """List ledger, injection point and side: what was not written, and a gateway's call, are the same on any ledger."""
    phases = [each for each in crossings if each not in CALLS]
    return [
        *(("sqlite", each, moment) for each in crossings for moment in Side),
        *(("postgres", each, Side.AFTER) for each in phases),
    ]


@pytest.fixture(scope="module")
def there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Serve on each ledger, without workers; every case has payments of its own there."""
    folder = tmp_path_factory.mktemp("checks")
    with bank() as opened:
        if request.param == "sqlite":
            with place(folder, opened) as there:
                yield _served(there)
            return
        with (
            fresh_database(request.getfixturevalue("postgres_url")) as url,
            place(folder, opened, url) as there,
        ):
            yield _served(there)


def _served(there: Place) -> Place:
    there.serve()
    there.share_out()
    return there


@pytest.mark.parametrize(("there", "crossing", "moment"), _on_each(CHECKING), indirect=["there"])
def test_a_payment_whose_verifier_died_is_ended_by_another(there: Place, crossing: str, moment: str) -> None:
    """Its customer pays; the money is captured once, and the payment is a SUCCESS."""
    payment_id = there.pay_at_bank()
    # What is recorded is an answer that ends nothing: the customer takes his time.
    if crossing != "record":
        there.approve(payment_id)
    there.later(SOON, payment_id)
    there.dies(CHECK, f"{crossing}:{moment}:exit")
    assert there.status(payment_id) == ("SUCCESS" if (crossing, moment) == ("settle", "after") else "REQUIRES_ACTION")

    there.approve(payment_id)
    there.later(SOON, payment_id)
    there.does(CHECK)
    assert there.status(payment_id) == "SUCCESS"
    assert there.moved(payment_id) == ["captured"]
    assert len(there.attempts(payment_id)) == 1
    assert there.broken() == ()


@pytest.mark.parametrize(("there", "crossing", "moment"), _on_each(WATCHING), indirect=["there"])
def test_late_money_whose_verifier_died_goes_back_once(there: Place, crossing: str, moment: str) -> None:
    """Its gateway declined, then took the money: it is refunded under one key, reported once, and stays a FAILURE."""
    payment_id = there.pay_in_vain()
    if crossing != "move_watch":
        there.move_late(payment_id)
    there.later(LATER, payment_id)
    there.dies(CHECK, f"{crossing}:{moment}:exit")
    assert there.status(payment_id) == "FAILURE"

    if crossing == "move_watch":
        there.move_late(payment_id)
    there.later(LATER, payment_id)
    there.does(CHECK)
    assert [row["state"] for row in there.rows(watches) if row["payment_id"] == payment_id] == ["REVERSED"]
    assert there.moved(payment_id) == ["captured", "reversed"]
    events = [row["event"] for row in there.rows(outbox)]
    kinds = [each["type"] for each in events if each["payment_id"] == payment_id]
    assert kinds.count("payment.duplicate_reversed") == 1
    assert there.status(payment_id) == "FAILURE"
    assert there.broken() == ()
