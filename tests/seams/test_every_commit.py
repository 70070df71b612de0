"""The server dies right before, or right after, each thing one payment does: what follows is always the truth."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from pgw.core.ledger.tables import attempts, payments, verification_checks
from pgw.core.payment.payment import Status
from tests.faults.proof import settled_in, violations
from tests.seams.ageing import pass_time
from tests.seams.load import Answer, ask, body_of
from tests.seams.serving import Shop, audit, shop, wait_until

HEAL_LIMIT_S = 60.0

A_WHILE = timedelta(hours=1)
"""How long no process runs after a death: all leases are over."""

AGAIN = timedelta(minutes=16)
"""From one answer that a gateway knows nothing to the next, so that the second counts, and the third ends it."""

pytestmark = pytest.mark.slow


def _key_for(vpa: str) -> str:
    """Find a key whose payment goes to this address."""
    return next(f"k{n}" for n in range(10_000) if body_of(f"k{n}")["instrument"]["vpa"] == vpa)


FALLS_BACK = _key_for("gateway-error@sandbox")
"""Its line: open, charge 1, turn, charge 2, close."""


@dataclass(frozen=True)
class Point:
    """Where it dies, how the payment ends once everything has been asked, its attempts, and the charges by then.

    ABSENT: an attempt that was announced and never called, of which its gateway said twice that it knows nothing.
    """

    failpoint: str
    end: str | None
    attempts: int
    charges: int

    def __str__(self) -> str:
        """Name the case."""
        return self.failpoint


DECLINED = "GATEWAY_TECHNICAL_ERROR"

POINTS = (
    Point("open:before:exit", None, 0, 0),
    Point("open:after:exit", "FAILURE ABSENT", 1, 0),
    Point("charge:before:exit", "FAILURE ABSENT", 1, 0),
    Point("charge:after:exit", f"FAILURE {DECLINED}", 1, 0),
    Point("turn:before:exit", f"FAILURE {DECLINED}", 1, 0),
    Point("turn:after:exit", "FAILURE ABSENT", 2, 0),
    Point("charge:before:exit:2", "FAILURE ABSENT", 2, 0),
    Point("charge:after:exit:2", "SUCCESS", 2, 1),
    Point("close:before:exit", "SUCCESS", 2, 1),
    Point("close:after:exit", "SUCCESS", 2, 1),
)


CASES = [
    *(("sqlite", each) for each in POINTS),
    # What a gateway does is the same on any ledger.
    *(("postgres", each) for each in POINTS if not each.failpoint.startswith("charge")),
]


@pytest.fixture
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Give a home on each ledger."""
    url = request.getfixturevalue("database_url") if request.param == "postgres" else None
    with shop(tmp_path / "home", url) as opened:
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


def _end(opened: Shop) -> str | None:
    """Say how the one payment stands, and why it failed."""
    for row in opened.rows(payments):
        return f"{row['status']} {row['failure_code'] or ''}".strip()
    return None


def _has_asked(opened: Shop, times: int) -> bool:
    return len(opened.rows(verification_checks)) >= times


def _let_it_heal(opened: Shop, point: Point) -> None:
    """Start it again an hour later, and let it ask as often as it takes."""
    pass_time(opened.database, A_WHILE)
    opened.start()
    wait_until(opened.is_healed, "the end of what was under way", HEAL_LIMIT_S)
    if point.end == "FAILURE ABSENT":
        for made in (1, 2, 3):
            wait_until(partial(_has_asked, opened, made), f"answer {made}", HEAL_LIMIT_S)
            pass_time(opened.database, AGAIN)


@pytest.mark.parametrize(("opened", "point"), CASES, ids=str, indirect=["opened"])
def test_a_death_there_is_found_out(opened: Shop, point: Point, saw: Callable[..., None]) -> None:
    """Nothing is charged twice, or without its attempt; every further request is answered with the one truth."""
    opened.start(PGW_FAILPOINT=point.failpoint)
    assert asyncio.run(_ask(opened.address)) is None
    assert opened.wait_dead() == -signal.SIGKILL

    _let_it_heal(opened, point)
    found, end = audit(opened), _end(opened)
    assert end == point.end
    assert (found.captures.total(), found.orphans, found.unscheduled()) == (point.charges, [], set())
    assert len(opened.rows(attempts)) == point.attempts

    again = asyncio.run(_ask(opened.address))
    assert again is not None
    assert (again.code, again.word) == (201, Status(point.end.split()[0]) if point.end else Status.SUCCESS)
    charges = opened.captures().total()
    assert charges == (point.charges if point.end else 1)
    assert len(opened.rows(payments)) == 1
    broken = violations(opened.database, settled_in(opened.home), ("hdfc", "icici", "axis"))
    assert broken == ()

    stood = f"1 payment, {end}" if found.payments else "no payment"
    told = f"{stood}; asked again: {again.code} {again.word}; {charges} charge{'' if charges == 1 else 's'}"
    match point.failpoint:
        case "open:before:exit":
            saw(19, f"{told}; {len(broken)} violations", case="before its commit")
        case "open:after:exit":
            saw(19, f"{told}; {len(broken)} violations", case="after its commit")
        case "charge:after:exit:2":
            saw(20, f"{told}; {len(broken)} violations")
        case _:
            pass
