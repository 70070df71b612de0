"""A server is stopped between writing a payment down and sending it, for longer than its lease: it does not send."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgw.core.ledger.tables import attempts, verification_checks
from pgw.core.payment import AttemptStatus, Status
from tests.seams.load import Answer, ask, body_of
from tests.seams.serving import SERVE, Shop, audit, shop, wait_until

DYING = str(Path(__file__).with_name("dying.py"))
KEY = next(f"k{n}" for n in range(1000) if body_of(f"k{n}")["instrument"]["vpa"] == "test@okhdfcbank")

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


def _is_decided(opened: Shop) -> bool:
    """Whether a verifier has taken the attempt over, has asked, and has written down what it heard."""
    checked = opened.rows(verification_checks)
    return bool(checked) and {row["status"] for row in opened.rows(attempts)} == {AttemptStatus.TIMEOUT}


@pytest.mark.parametrize(
    ("where", "told"),
    [("open", (503, "LEDGER_UNAVAILABLE")), ("send", (201, Status.FAILURE))],
    ids=str,
)
def test_a_server_that_was_held_past_its_lease_charges_nothing(opened: Shop, where: str, told: tuple[int, str]) -> None:
    """Held as it learns that the payment is written down, or as it is about to send: then it knows that it did not."""
    opened.start((DYING, where, "held", *SERVE[2:]))
    assert opened.process is not None
    held = opened.process

    async def scenario() -> Answer:
        asking = asyncio.create_task(_ask(opened.address))
        await asyncio.to_thread(_let_a_verifier_decide, opened)
        os.kill(held.pid, signal.SIGCONT)
        return await asking

    answer = asyncio.run(scenario())
    found = audit(opened)
    assert (answer.code, answer.word) == told
    assert (found.captures.total(), found.orphans, found.unscheduled()) == (0, [], set())
    assert len(found.payments) == 1
    assert opened.stop(30.0) == 0


def _let_a_verifier_decide(opened: Shop) -> None:
    wait_until(lambda: bool(opened.rows(attempts)), "the announced attempt")
    verifier = subprocess.Popen(
        [sys.executable, "-m", "pgw.cli", "worker", "verify"], env=opened._environ, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: _is_decided(opened), "the verifier's word", 60.0)
    finally:
        verifier.terminate()
        verifier.wait()
