"""A test's wishes -> a Redis of its own that can be stopped, killed and started again at the same address."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.services import (
    UnavailableError,
    _end,
    _free_port,
    _redis_binaries,
    _redis_order,
    _started,
    ask_redis,
)


class MortalRedis:
    """One server; what it held is gone with it, for it writes no file."""

    def __init__(self, binary: Path) -> None:
        self._port = _free_port()
        self._plan = partial(_redis_order, binary)
        self._running = ExitStack()
        self._process: int | None = None
        self.url = f"redis://:mortal@127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Run it, empty."""
        self._running.callback(_end, _started(self._plan, self._port, "mortal"))
        facts = ask_redis(self.url, "INFO", "server") or ""
        self._process = int(facts.partition("process_id:")[2].split()[0])

    def kill(self) -> None:
        """End it without a word, as a power cut does, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        self._process = None
        self.close()

    def pause(self) -> None:
        """Let it hold its connections and answer nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End what runs; a paused server would not hear that it is to stop."""
        if self._process is not None:
            self.resume()
            self._process = None
        self._running.close()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        os.kill(self._process, number)


@contextmanager
def mortal_redis() -> Iterator[MortalRedis]:
    """Run one until the test is over."""
    binary = next(_redis_binaries(), None)
    if binary is None:
        raise UnavailableError("no binaries found: put redis-server on PATH")
    server = MortalRedis(binary)
    try:
        server.start()
        yield server
    finally:
        server.close()
