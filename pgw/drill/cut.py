"""A throw-away Redis -> an address in front of it that can be cut, and the server emptied before it is back."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pgw.core.errors import Code, PgwError
from pgw.core.hot.on_redis import Server, connect
from pgw.core.ports import HotUnavailable

START_TRIES, START_PAUSE_S = 100, 0.05
CHUNK = 65_536
DEFAULT_PORT = 6379
WAY_OUT = "put redis-server on PATH, or name an empty throw-away Redis with --redis redis://HOST:PORT/N"


class CuttableConnection:
    """The way to Redis: connections to `url` are passed on while it is not cut."""

    def __init__(self, target: str, server: Server) -> None:
        parts = urlsplit(target)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or DEFAULT_PORT
        self._parts = parts
        self._redis = server
        self._listener: asyncio.Server | None = None
        self._own_port = 0
        self._ends: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Return the address to use in Redis's place."""
        login, at, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{login}{at}127.0.0.1:{self._own_port}"))

    async def mend(self) -> None:
        """Pass connections on, from now on."""
        self._listener = await asyncio.start_server(self._pass_on, "127.0.0.1", self._own_port)
        self._own_port = self._listener.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End every connection and refuse new ones."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for end in tuple(self._ends):
            end.transport.abort()

    async def empty(self) -> None:
        """Lose all that Redis holds."""
        await self._redis.ask("FLUSHDB")

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        self._ends |= {writer, back}
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            self._ends -= {writer, back}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def line_to_redis(url: str | None, folder: Path) -> AsyncIterator[CuttableConnection]:
    """Open a line to the Redis named, or to one started for the drill.

    Raises:
        PgwError: there is none, it does not answer, or it holds something.
    """
    process = None
    if url is None:
        url, process = _started(folder)
    server = connect(url)
    line = CuttableConnection(url, server)
    try:
        await _answers(server, START_TRIES if process is not None else 1)
        await line.mend()
        yield line
    finally:
        await line.cut()
        await server.close()
        if process is not None:
            process.kill()
            process.wait()


def _started(folder: Path) -> tuple[str, "subprocess.Popen[bytes]"]:
    binary = shutil.which("redis-server")
    if binary is None:
        raise PgwError(Code.STORE_ABSENT, f"there is no Redis to lose: {WAY_OUT}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder))
    process = subprocess.Popen(  # noqa: S603  # found on PATH, on the operator's machine
        [binary, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return f"redis://127.0.0.1:{port}/0", process


async def _answers(server: Server, tries: int) -> None:
    """Wait until Redis answers, and refuse one that is in use: the drill empties it."""
    for left in reversed(range(tries)):
        try:
            held = int(await server.ask("DBSIZE"))
        except HotUnavailable as fault:
            if not left:
                raise PgwError(Code.STORE_ABSENT, f"the drill's Redis does not answer ({fault}): {WAY_OUT}") from None
            await asyncio.sleep(START_PAUSE_S)
        else:
            break
    if held:
        raise PgwError(
            Code.STORE_IN_USE, f"that Redis database holds {held} keys, and the drill would empty it: {WAY_OUT}"
        )
