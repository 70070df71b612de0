"""The server dies right before, or right after, each thing one payment writes: what follows is always the truth."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgw.core.ledger.tables import attempts
from pgw.core.payment import Status
from tests.seams.load import Answer, ask, body_of
from tests.seams.serving import SERVE, Shop, audit, shop, wait_until

HEAL_LIMIT_S = 60.0
DYING = str(Path(__file__).with_name("dying.py"))

pytestmark = pytest.mark.slow


def _key_for(vpa: str) -> str:
    """Find a key whose payment goes to this address."""
    return next(f"k{n}" for n in range(10_000) if body_of(f"k{n}")["instrument"]["vpa"] == vpa)


FALLS_BACK = _key_for("gateway-error@sandbox")
"""Its line: open, charge 1, turn, charge 2, close."""

POINTS: list[tuple[str, str, str | None, int]] = [
    ("open", "before", None, 0),
    ("open", "after", "PENDING_VERIFICATION", 0),
    ("charge", "before", "PENDING_VERIFICATION", 0),
    ("charge", "after", "FAILURE", 0),
    ("turn", "before", "FAILURE", 0),
    ("turn", "after", "PENDING_VERIFICATION", 0),
    ("close", "before", "SUCCESS", 1),
    ("close", "after", "SUCCESS", 1),
]
"""Where it dies, how the payment stands once everything has been asked, and the charges in the book by then.

Pending is an attempt that was announced and never called: its gateway knows nothing of it, which proves nothing.
"""


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Give a home on each ledger, with the shortest leases there are."""
    url = request.getfixturevalue("database_url") if request.param == "postgres" else None
    with shop(tmp_path / "home", url, timeout_ms=50) as opened:
        yield opened


async def _ask(address: tuple[str, int]) -> Answer | None:
    """Ask for the payment; None when the server dies of it."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        answer, _ = await ask(reader, writer, FALLS_BACK)
    except (ConnectionError, asyncio.IncompleteReadError):
        return None
    finally:
        writer.close()
    return answer


@pytest.mark.parametrize(("phase", "moment", "status", "charges"), POINTS, ids=str)
def test_a_death_there_is_found_out(opened: Shop, phase: str, moment: str, status: str | None, charges: int) -> None:
    opened.start((DYING, phase, moment, *SERVE[2:]))
    assert asyncio.run(_ask(opened.address)) is None
    assert opened.wait_dead() == -signal.SIGKILL

    opened.start()
    wait_until(opened.is_healed, "the end of the payment", HEAL_LIMIT_S)
    found = audit(opened)
    assert [row["status"] for row in found.payments.values()] == ([] if status is None else [status])
    assert (found.captures.total(), found.orphans, found.unscheduled()) == (charges, [], set())

    again = asyncio.run(_ask(opened.address))
    assert again is not None
    assert again.word == (status or Status.SUCCESS)
    assert again.code == (202 if status == "PENDING_VERIFICATION" else 201)
    assert len(opened.rows(attempts)) == {None: 2, "FAILURE": 1}.get(status, 2 if phase in {"turn", "close"} else 1)
    assert opened.captures().total() == (charges if status else 1)
