"""README.md -> its commands, run as they stand there; only the port, the program's path and the database differ."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgw.core.ledger.engine.store import HEAD

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
INSTALLS = [block.strip() for block in BLOCKS if "pip install" in block]
SANDBOX = ".venv/bin/pgw sandbox"
DRILL = ".venv/bin/pgw drill lost-response"
ON_POSTGRES = next(block for block in BLOCKS if "DATABASE_URL" in block)
ON_REDIS = next(block for block in BLOCKS if "REDIS_URL" in block)
ELSEWHERE = {*INSTALLS, SANDBOX, DRILL, ON_POSTGRES.strip(), ON_REDIS.strip()}
AGAINST_THE_SERVER = [block for block in BLOCKS if block.strip() not in ELSEWHERE]
OURS = ("PGW_", "DATABASE_", "BIND_", "REDIS_", "METRICS_")

PROGRAM = shlex.join([sys.executable, "-m", "pgw.cli"])
READY_WITHIN_S = 20.0


def environ(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**kept, "PGW_HOME": str(home), "PYTHONPATH": str(ROOT), **more}


@contextmanager
def serving(home: Path, **more: str) -> Iterator[str]:
    """Run `pgw serve` on a free port; yield its address; expect a clean stop."""
    command = [sys.executable, "-m", "pgw.cli", "serve", "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, env=environ(home, **more), stderr=subprocess.PIPE, text=True) as server:
        until = time.monotonic() + READY_WITHIN_S
        while not (home / "serve.json").exists():
            assert server.poll() is None, server.stderr.read() if server.stderr else ""
            assert time.monotonic() < until, "pgw serve is not ready"
            time.sleep(0.02)
        try:
            yield json.loads((home / "serve.json").read_text())["address"]
        finally:
            server.send_signal(signal.SIGTERM)
            _, words = server.communicate(timeout=READY_WITHIN_S)
    assert server.returncode == 0, words


def run(command: str, home: Path, address: str, **more: str) -> str:
    """Run one block of the README in a shell that stops at the first failure."""
    script = command.replace(".venv/bin/pgw", PROGRAM).replace("http://localhost:3000", address)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=environ(home, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_readme_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """Every command of the README works on a new ledger, in its order."""
    with serving(tmp_path) as address:
        outputs = [run(block, tmp_path, address) for block in AGAINST_THE_SERVER]
        first = json.loads(outputs[0])
        again = json.loads(run(AGAINST_THE_SERVER[0], tmp_path, address))
    assert (first["status"], first["gateway_used"]) == ("SUCCESS", "hdfc")
    assert first["routing_reason"]
    assert first["latency_ms"] >= 0
    assert again["payment_id"] == first["payment_id"]
    assert "identical" in outputs[1]
    assert "undo: pgw breaker clear hdfc UPI" in "".join(outputs)


def test_the_sandbox_is_the_command_whose_faults_are_tested() -> None:
    """`pgw sandbox` stands in the README; tests/faults runs it, with the line it prints, through every fault."""
    assert SANDBOX in [block.strip() for block in BLOCKS]
    assert 'running("sandbox"' in (ROOT / "tests/faults/test_razorpay_faults.py").read_text()


def test_the_drill_is_one_of_those_that_are_tested() -> None:
    """`pgw drill` stands in the README; tests/drill runs every kind of it, in its fast course."""
    assert DRILL in [block.strip() for block in BLOCKS]
    assert f'"{DRILL.rsplit(maxsplit=1)[-1]}"' in (ROOT / "tests/drill/test_drills.py").read_text()


def test_the_two_install_commands_are_those_the_gate_runs() -> None:
    """What installs pgw in the README is, to the letter, what the gate types in a fresh clone."""
    gate = (ROOT / ".ci/run").read_text()
    assert [command for command in INSTALLS if command not in gate] == []
    assert len(INSTALLS) == 2


def test_the_readme_s_way_to_postgres_works(tmp_path: Path, database_url: str) -> None:
    """The PostgreSQL commands make a ledger that takes the README's payment."""
    export, upgrade, serve = ON_POSTGRES.strip().splitlines()
    assert export.startswith("export DATABASE_URL=postgres://")
    assert serve == ".venv/bin/pgw serve"
    assert HEAD in run(upgrade, tmp_path, "", DATABASE_URL=database_url)
    with serving(tmp_path, DATABASE_URL=database_url) as address:
        payment = json.loads(run(AGAINST_THE_SERVER[0], tmp_path, address, DATABASE_URL=database_url))
    assert payment["status"] == "SUCCESS"


def test_the_readme_s_way_to_several_servers_works(tmp_path: Path, database_url: str, redis_url: str) -> None:
    """Two servers on one ledger and one Redis: what is ordered of one is known to both."""
    export, serve = ON_REDIS.strip().splitlines()
    assert export.startswith("export REDIS_URL=redis://")
    assert serve == ".venv/bin/pgw serve"
    stores = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    run(".venv/bin/pgw db upgrade", tmp_path / "one", "", **stores)
    with serving(tmp_path / "one", **stores) as address, serving(tmp_path / "two", **stores):
        payment = json.loads(run(AGAINST_THE_SERVER[0], tmp_path / "one", address, **stores))
        order = ".venv/bin/pgw breaker force-open icici UPI -o json"
        seen = json.loads(run(order, tmp_path / "two", address, **stores))["seen_by"]
    assert payment["status"] == "SUCCESS"
    assert (seen["processes"], seen["of"]) == (2, 2)
