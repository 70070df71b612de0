"""A failpoint wraps the ports it is about, does its action once, and costs nothing where it is not set."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Any

import pytest

from pgw.assembly import Runtime, open_runtime
from pgw.core.gateways.sandbox import SandboxGateway
from pgw.core.ledger.engine.on_sqlite import OnSqlite
from pgw.core.ports import Reference
from pgw.failpoints import ArmedFailpoint, Failpoint, FailpointAction, GatewayWrapper, RunnerWrapper, Side, arm
from pgw.settings import load
from tests.ledgers import new_file


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note which signals this process would have sent itself."""
    sent: list[int] = []
    monkeypatch.setattr("pgw.failpoints.signal.pthread_kill", lambda _, number: sent.append(number))
    return sent


def _within(folder: Path, failpoint: str, work: Any) -> Any:
    new_file(folder)

    async def run() -> Any:
        runtime = await open_runtime(load({"PGW_HOME": str(folder), "PGW_FAILPOINT": failpoint}), "test")
        try:
            return await work(runtime)
        finally:
            await runtime.close(1.0)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("action", "number"), [(FailpointAction.EXIT, signal.SIGKILL), (FailpointAction.STOP, signal.SIGSTOP)]
)
def test_a_failpoint_acts_at_its_injection_point_once(signals: list[int], action: FailpointAction, number: int) -> None:
    armed = ArmedFailpoint(Failpoint("turn", Side.AFTER, action, nth=2))
    for each in ("open", "turn", "close", "turn"):
        assert signals == []
        with armed.around(each):
            assert signals == []
    assert signals == [number]
    with armed.around("open", "turn"):
        pass
    assert signals == [number]


def test_without_a_failpoint_nothing_is_wrapped(tmp_path: Path) -> None:
    async def look(runtime: Runtime) -> None:
        assert isinstance(runtime.ledger._writer._runner, OnSqlite)
        assert {type(each) for each in runtime.gateways.values()} == {SandboxGateway}

    _within(tmp_path, "", look)


def test_with_one_runner_and_gateways_are_wrapped_and_do_as_before(
    tmp_path: Path, signals: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, as a warning."""
    arm.cache_clear()

    async def look(runtime: Runtime) -> object:
        assert isinstance(runtime.ledger._writer._runner, RunnerWrapper)
        assert {type(each) for each in runtime.gateways.values()} == {GatewayWrapper}
        hdfc = runtime.gateways["hdfc"]
        assert hdfc.trouble is None
        assert signals == []
        return await hdfc.enquire(Reference("01a209b6-07db-7bfb-9c8d-7b1a3a9dbc3b", 1))

    found = _within(tmp_path, "enquire:after:exit", look)
    assert signals == [signal.SIGKILL]
    assert found.result == "ABSENT"
    told = [each for each in caplog.records if each.name == "pgw.failpoints"]
    assert [(each.levelno, "enquire:after:exit" in each.getMessage()) for each in told] == [(logging.WARNING, True)]
