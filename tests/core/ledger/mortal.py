"""A test's wishes -> a PostgreSQL of its own that can be killed and started again on its data, at the same address."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services import (
    START_LIMIT_S,
    Order,
    UnavailableError,
    _end,
    _free_port,
    _postgres_binaries,
    _postgres_order,
    _started,
)

if TYPE_CHECKING:
    import subprocess


class MortalPostgres:
    """One server and the folder with its data, which outlives it.

    It does not wait for the disk: what it has committed a machine's crash might lose, and no process's death can.
    """

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._folder = folder
        self._port = _free_port()
        self._order = _postgres_order(binaries, False, folder, self._port, "mortal")  # noqa: FBT003
        self._running = ExitStack()
        self._guard: subprocess.Popen[str] | None = None
        self.url = self.of("postgres")

    def of(self, database: str) -> str:
        """Name one of its databases, as `DATABASE_URL` would."""
        return f"postgresql://postgres:mortal@127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Run it on the data it has; the first time they are made."""
        self._guard = _started(self._plan, self._port, "mortal")
        self._running.callback(_end, self._guard)

    def kill(self) -> None:
        """Kill the postmaster, and wait until the sessions it leaves behind have ended too."""
        assert self._guard is not None, "it does not run"
        postmaster = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        # The guard reads what all of them write, and ends when there is nobody left to write.
        self._guard.wait(START_LIMIT_S)
        self._guard = None
        self._running.close()

    def close(self) -> None:
        """End what runs."""
        self._running.close()

    def _plan(self, folder: Path, _port: int, _password: str) -> Order:
        if self._order.user is not None:
            os.chown(folder, self._order.user, self._order.user)
        made = (self._folder / "data").exists()
        return replace(self._order, commands=self._order.commands[-1:]) if made else self._order


@contextmanager
def mortal_postgres() -> Iterator[MortalPostgres]:
    """Run one until the test is over."""
    binaries = next(_postgres_binaries(), None)
    if binaries is None:
        raise UnavailableError("no binaries found: install the extra 'test'")
    folder = Path(tempfile.mkdtemp(prefix="pgw-test-"))
    try:
        server = MortalPostgres(folder, binaries)
        try:
            server.start()
            yield server
        finally:
            server.close()
    finally:
        shutil.rmtree(folder)
