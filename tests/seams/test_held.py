"""A server is stopped between commit and send until a verifier has ended its payment: then it does not send."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
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

KEY = next(f"k{n}" for n in range(1000) if body_of(f"k{n}")["instrument"]["vpa"] == "test@okhdfcbank")

AGAIN = timedelta(minutes=16)
"""From one answer that a gateway knows nothing to the next, so that the second counts, and the third ends it."""

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(database_url: str, tmp_path: Path) -> Iterator[Shop]:
    """Give a home on a ledger that several processes share."""
    with shop(tmp_path / "home", database_url, timeout_ms=300) as opened:
        yield opened


async def _ask(address: tuple[str, int]) -> Answer:
    reader, writer = await asyncio.open_connection(*address)
    try:
        answer, _ = await ask(reader, writer, KEY)
        return answer
    finally:
        writer.close()


def _has_asked(opened: Shop, times: int) -> bool:
    return len(opened.rows(verification_checks)) >= times


def _let_a_verifier_decide(opened: Shop) -> list[str]:
    """Let it ask once the lease is over, in real time; then let the time pass that makes its answers an absence."""
    wait_until(lambda: bool(opened.rows(attempts)), "the announced attempt")
    verifier = subprocess.Popen(
        [sys.executable, "-m", "pgw.cli", "worker", "verify"], env=opened._environ, stderr=subprocess.DEVNULL
    )
    try:
        for made in (1, 2, 3):
            wait_until(partial(_has_asked, opened, made), f"the verifier's answer {made}", 60.0)
            pass_time(opened.database, AGAIN)
    finally:
        verifier.terminate()
        verifier.wait()
    return [row["status"] for row in opened.rows(payments)]


@pytest.mark.parametrize(
    ("failpoint", "told"),
    [
        ("open:after:stop", {(503, "LEDGER_UNAVAILABLE"), (201, Status.FAILURE)}),
        ("charge:before:stop", {(201, Status.FAILURE)}),
    ],
    ids=["open:after:stop", "charge:before:stop"],
)
def test_a_server_that_was_held_past_its_lease_charges_nothing(
    opened: Shop, failpoint: str, told: set[tuple[int, str]]
) -> None:
    """Stopped between commit and send; it goes on after a verifier found that its gateway knows nothing: FAILURE.

    Held as it learns that the payment is written down, or as it is about to send: then it knows that it did not.
    """
    opened.start(PGW_FAILPOINT=failpoint)
    assert opened.process is not None
    held = opened.process

    async def scenario() -> Answer:
        asking = asyncio.create_task(_ask(opened.address))
        decided = await asyncio.to_thread(_let_a_verifier_decide, opened)
        assert decided == [Status.FAILURE]
        os.kill(held.pid, signal.SIGCONT)
        return await asking

    answer = asyncio.run(scenario())
    assert (answer.code, answer.word) in told
    # Whatever it still has to write is written by then.
    assert opened.stop(30.0) == 0
    found = audit(opened)
    assert (found.captures.total(), found.orphans, found.unscheduled()) == (0, [], set())
    assert [(row["status"], row["failure_code"]) for row in found.payments.values()] == [("FAILURE", "ABSENT")]
    assert [(row["status"], row["error_code"]) for row in opened.rows(attempts)] == [("FAILURE", "ABSENT")]
    assert violations(opened.database, settled_in(opened.home), ("hdfc", "icici", "axis")) == ()
