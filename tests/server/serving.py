"""Settings -> a server to talk to: the real process, or the same app on a socket in a thread of this one."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sanic import Sanic

from pgw.assembly import Runtime
from pgw.core.ledger.engine.store import upgrade
from pgw.server.app import create_app
from pgw.settings import SETTINGS, load
from tests.server.wire import PATIENCE_S, Api, eventually

T = TypeVar("T")

ATTEMPT_MS = 1300
"""Time of one attempt: longer than `slow@sandbox` takes, and no longer than `timeout@sandbox` needs."""


@dataclass(frozen=True)
class Served:
    """`pgw serve`, running: its address, the folder of its home and its log, its PostgreSQL if it has one."""

    api: Api
    folder: Path
    log: Path
    database_url: str | None
    process: subprocess.Popen[bytes]

    def stop(self) -> int:
        """Tell it to stop; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@contextmanager
def served(folder: Path, **variables: str) -> Iterator[Served]:
    """Run `pgw serve` on a free port with a home of its own in `folder`, and these variables."""
    home, log = folder / "home", folder / "serve.log"
    own = {each.name for each in SETTINGS}
    inherited = {name: value for name, value in os.environ.items() if name not in own}
    settings = {"PGW_HOME": str(home), "PGW_LOG_LEVEL": "debug", "GATEWAY_TIMEOUT_MS": str(ATTEMPT_MS), **variables}
    command = [sys.executable, "-m", "pgw.cli", "serve", "--bind", "127.0.0.1:0"]
    with log.open("wb") as output, subprocess.Popen(command, stderr=output, env={**inherited, **settings}) as process:
        try:
            api = Api(eventually(lambda: _port(log, process)))
            yield Served(api, folder, log, variables.get("DATABASE_URL"), process)
        finally:
            process.kill()


def _port(log: Path, process: subprocess.Popen[bytes]) -> int | None:
    greeting = re.search(r"pgw serves http://127\.0\.0\.1:(\d+)", log.read_text())
    assert greeting or process.poll() is None, log.read_text()
    return int(greeting[1]) if greeting else None


@dataclass(frozen=True)
class Inside:
    """The app in this process: what a test may reach into, from its own thread."""

    api: Api
    app: Sanic[Any, Any]
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event

    @property
    def runtime(self) -> Runtime:
        """Return the opened world."""
        runtime: Runtime = self.app.ctx.runtime
        return runtime

    def within(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the server's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)


def as_it_is(_: Sanic[Any, Any]) -> None:
    """Change nothing about the app."""


@contextmanager
def inside(
    home: Path, variables: Mapping[str, str] | None = None, configure: Callable[[Sanic[Any, Any]], None] = as_it_is
) -> Iterator[Inside]:
    """Run the app on a socket, without its loops: no refresh of the snapshot, no verification, no gateway enabled."""
    settings = load({"PGW_HOME": str(home), "GATEWAY_TIMEOUT_MS": str(ATTEMPT_MS), **(variables or {})})
    upgrade(settings.database)
    app = create_app(settings, live=False)
    configure(app)
    ready: Future[Inside] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(app, ready)), name="pgw-inside", daemon=True)
    thread.start()
    running = ready.result(PATIENCE_S)
    try:
        yield running
    finally:
        running.loop.call_soon_threadsafe(running.stop.set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the app did not stop"


async def _serve(app: Sanic[Any, Any], ready: "Future[Inside]") -> None:
    """Do what `pgw serve` does around the same app."""
    try:
        listener = socket.create_server(("127.0.0.1", 0))
        server: Any = await app.create_server(
            sock=listener, return_asyncio_server=True, asyncio_server_kwargs={"start_serving": False}
        )
        await server.startup()
        await server.before_start()
        await server.start_serving()
    except BaseException as fault:  # noqa: BLE001  # whoever waits for the server must learn why there is none
        ready.set_exception(fault)
        return
    running = Inside(Api(listener.getsockname()[1]), app, asyncio.get_running_loop(), asyncio.Event())
    ready.set_result(running)
    await running.stop.wait()
    server.close()
    for connection in list(server.connections):
        connection.abort()
    await server.before_stop()
    await server.after_stop()
    listener.close()
