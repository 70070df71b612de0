"""What the tests of the command line share: a clean environment, a stub server, and a way to run a command."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pgw.cli.app import run
from pgw.core.ledger.engine.store import upgrade
from pgw.core.routing.traffic_shift import Action
from pgw.settings import SETTINGS
from tests.cli import breaker_documents, documents
from tests.cli.stub import Stub, running_stub


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Pgw = Callable[..., Ended]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Set no variable of pgw but a home that does not exist."""
    for name in (*(each.name for each in SETTINGS), "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGW_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def _fresh_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "pgw.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def ledger(home: Path, _fresh_ledger: Path) -> Path:
    """Put a new ledger where the settings look for it."""
    home.mkdir()
    return Path(shutil.copy(_fresh_ledger, home / "pgw.db"))


@pytest.fixture
def pgw(capsys: pytest.CaptureFixture[str]) -> Pgw:
    """Run a command in this process: `pgw("gateway", "list")`."""

    def ended(*arguments: str) -> Ended:
        code = run(list(arguments))
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return ended


@pytest.fixture
def at_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be ten o'clock."""

    monkeypatch.setattr("pgw.cli.commands.breaker.now", lambda: documents.NOW)


def _give_orders(server: Stub) -> None:
    """Let the server know of breakers, pauses and a scoring configuration."""
    server.answer("GET /circuit-breaker/status", breaker_documents.status(*breaker_documents.breakers()[:2]))
    server.answer("GET /circuit-breaker/history", breaker_documents.history())
    for action in Action:
        for breaker in ("razorpay/UPI", "hdfc/CARD", "hdfc/UPI"):
            path = f"POST /circuit-breaker/{action}/{breaker}"
            server.answer(path, breaker_documents.ordered(action))
            server.answer(f"{path}?dry_run=true", breaker_documents.foretold(action))
    server.answer("POST /ops/pause", breaker_documents.paused())
    server.answer("POST /ops/resume", breaker_documents.paused(is_paused=False))
    server.answer("GET /scoring/config", breaker_documents.scoring())
    server.answer("PUT /scoring/config", breaker_documents.scoring())


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """Run a server that knows one payment and four gateways, and point PGW_SERVER at it."""
    with running_stub() as server:
        path = f"/payments/{documents.PAYMENT_ID}"
        server.answer("GET /gateways", documents.gateway_list())
        server.answer("GET /payments", {"items": [documents.payment()], "next": None})
        server.answer(f"GET {path}", documents.payment())
        server.answer(
            f"GET {path}/routing-decision", documents.decision(recomputed={"identical": True, "differences": []})
        )
        server.answer(f"GET {path}/attempts", documents.attempts())
        server.answer(
            f"GET {path}/status-verification", documents.problem(404, "NO_VERIFICATION", "never needed"), status=404
        )
        server.answer(f"POST {path}/resolve", {**documents.payment(), "version": 4})
        server.answer("GET /ops/readiness", {"status": "ready", "environment": "development", "checks": []})
        server.answer("GET /retry-policy/m_001", documents.policy())
        server.answer("PUT /retry-policy/m_001", {**documents.policy(), "max_attempts": 2})
        server.answer("GET /scoring/debug", documents.scores())
        _give_orders(server)
        for gateway in documents.gateway_list()["items"]:
            server.answer(f"PATCH /gateways/{gateway['gateway_id']}", {**gateway, "is_enabled": False})
        monkeypatch.setenv("PGW_SERVER", server.address)
        yield server
