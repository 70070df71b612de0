"""Settings -> a serving process: refusals, stores, socket, loop, drain."""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from sanic import Sanic

from pgw.assembly import Runtime
from pgw.core.errors import Code, PgwError
from pgw.core.ledger.configuration import GATEWAY, SEED, changes_since
from pgw.core.ledger.engine import store
from pgw.core.routing.gateway import GatewayConfig
from pgw.core.routing.plan import Snapshot
from pgw.server.app import create_app
from pgw.settings import Settings, refusals

log = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.001
"""How long one thread may hold the interpreter while another waits: the ledger's writer has a commit to send off."""

SERVE_FILE = "serve.json"
NEW_LEDGER = ("pgw serve", "new development ledger")
"""Who enables the sandbox gateways of a new ledger, and why."""

BACKLOG = 1024


def serve(settings: Settings, gateways: frozenset[str] | None = None, *, embedded_workers: bool = True) -> None:
    """Serve until SIGTERM or SIGINT. Raises PgwError for every reason not to start."""
    if found := refusals(settings):
        raise PgwError(Code.REFUSED_TO_START, "; ".join(found))
    _set_up_logging(settings)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with _sole_server(settings), _listening(settings) as listener:
        _prepare_store(settings)
        app = create_app(settings, live=True, only=gateways, embedded_workers=embedded_workers)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(app, settings, listener, gateways))


def _set_up_logging(settings: Settings) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for noisy in ("alembic", "sanic.root", "sanic.server"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@contextmanager
def _sole_server(settings: Settings) -> Iterator[None]:
    """Hold the embedded ledger's lock: one SQLite file has one server."""
    if not settings.on_sqlite:
        yield
        return
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (settings.home / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PgwError(
                Code.STORE_IN_USE,
                f"another pgw serve works on {settings.home}: stop it, or set PGW_HOME to another folder",
            ) from None
        yield


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.bind_host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.bind_host, settings.bind_port))
        except OSError as fault:
            where = f"{settings.bind_host}:{settings.bind_port}"
            raise PgwError(
                Code.ADDRESS_IN_USE, f"cannot listen on {where} ({fault.strerror}): choose another with --bind"
            ) from None
        listener.listen(BACKLOG)
        listener.settimeout(0)
        yield listener


def _prepare_store(settings: Settings) -> None:
    """Bring the embedded ledger up to date; leave an existing PostgreSQL schema to its operator."""
    if not settings.on_sqlite:
        status = store.schema_status(settings.database)
        if status.is_current:
            return
        if status.current is not None or settings.production:
            state = f"has schema {status.current}" if status.current else "has no pgw schema"
            raise PgwError(
                Code.OLD_SCHEMA,
                f"{status.database} {state}, this pgw needs {status.head}: run `pgw db upgrade`",
            )
    store.upgrade(settings.database)


async def _serve(
    app: Sanic[Any, Any], settings: Settings, listener: socket.socket, gateways: frozenset[str] | None
) -> None:
    """Run the app until stopped, then drain: no new payments, answers finished, background payments ended."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server: Any = await app.create_server(
        sock=listener,
        return_asyncio_server=True,
        asyncio_server_kwargs={"start_serving": False},
        # Said again: Sanic listens anew, with a hundred, and a burst beyond that waits a second for its connections.
        backlog=BACKLOG,
        access_log=False,
    )
    await server.startup()
    await server.before_start()
    runtime: Runtime = app.ctx.runtime
    try:
        _check_gateways(runtime, gateways)
        await _begin(runtime)
        await server.start_serving()
        await server.after_start()
        with _announced(runtime, listener):
            _greet(settings, listener)
            await stop.wait()
            app.ctx.draining = True
            log.info("stopping: no new payments, %.0f s to finish", settings.drain_seconds)
            await _drain(server, runtime, settings.drain_seconds)
    finally:
        await server.before_stop()
        await server.after_stop()


def _check_gateways(runtime: Runtime, only: frozenset[str] | None) -> None:
    known = {each.gateway_id for each in runtime.snapshot().gateways}
    if only is not None and (unknown := sorted(only - known)):
        raise PgwError(Code.NOT_FOUND, f"--gateways names {', '.join(unknown)}; there are {', '.join(sorted(known))}")


async def _begin(runtime: Runtime) -> None:
    """Refuse sandbox gateways in production; on a new ledger in development, enable them once."""
    snapshot = runtime.snapshot()
    sandboxes = [each for each in snapshot.gateways if each.is_sandbox]
    if runtime.settings.production:
        if enabled := [each.gateway_id for each in sandboxes if each.is_enabled]:
            names = ", ".join(enabled)
            raise PgwError(
                Code.REFUSED_TO_START,
                f"sandbox gateways are enabled in production ({names}): run `pgw gateway disable NAME` for each",
            )
        return
    changes = await runtime.ledger.read(changes_since, len(SEED))
    if any((each.actor, each.reason) != NEW_LEDGER for each in changes):
        return
    # A server that died in between left some to be enabled.
    done = {each.subject for each in changes}
    for each in sandboxes:
        if (subject := GATEWAY + each.gateway_id) not in done:
            await runtime.snapshots.configure(subject, _enabled(each.gateway_id), *NEW_LEDGER)


def _enabled(gateway_id: str) -> Any:
    def change(snapshot: Snapshot) -> GatewayConfig:
        gateway = snapshot.gateway(gateway_id)
        assert gateway is not None, "a seeded gateway is there"
        return msgspec.structs.replace(gateway, is_enabled=True)

    return change


@contextmanager
def _announced(runtime: Runtime, listener: socket.socket) -> Iterator[None]:
    """Announce to the command line of this machine where the server is, for as long as it is there."""
    settings = runtime.settings
    path = settings.home / SERVE_FILE
    document = {
        "pid": os.getpid(),
        "address": _address(listener),
        "ledger": runtime.ledger_id,
        "database": hashlib.sha256(settings.database.encode()).hexdigest(),
    }
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(document))
    fresh.replace(path)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            if json.loads(path.read_text())["pid"] == os.getpid():
                Path(path).unlink()


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def _greet(settings: Settings, listener: socket.socket) -> None:
    kind = "SQLite" if settings.on_sqlite else "PostgreSQL"
    sys.stderr.write(
        f"pgw serves {_address(listener)} (ledger: {kind}, {'production' if settings.production else 'development'})\n"
    )
    sys.stderr.flush()


async def _drain(server: Any, runtime: Runtime, within_s: float) -> None:
    """Stop listening, let payments and their answers finish, cut what is left: verification ends what was cut."""
    server.close()
    for connection in list(server.connections):
        connection.close_if_idle()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            # Sanic has no signal for the end of its last connection.
            while server.connections or runtime.tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    for connection in list(server.connections):
        connection.abort()
