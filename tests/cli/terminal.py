"""A command on a terminal: what it shows there, answers typed when it asks, Ctrl-C when the test says so."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

WITHIN_S = 20.0
"""How long a command may take to show what is expected of it."""

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass
class Terminal:
    """One running command and all it has shown so far, as it was sent."""

    process: subprocess.Popen[bytes]
    ours: int
    raw: str = ""

    @property
    def shown(self) -> str:
        """What a person has seen: without colours and movements of the cursor."""
        return _ANSI.sub("", self.raw).replace("\r\n", "\n")

    def see(self, text: str, times: int = 1) -> None:
        """Wait until a text has been shown."""
        until = time.monotonic() + WITHIN_S
        while self.shown.count(text) < times:
            assert self._read(until), f"it ended without '{text}': {self.shown}"

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self.ours, f"{text}\n".encode())

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Read to the end and return the exit code."""
        until = time.monotonic() + WITHIN_S
        while self._read(until):
            pass
        return self.process.wait(WITHIN_S)

    def _read(self, until: float) -> bool:
        """Read what is there; False at the end."""
        ready, _, _ = select.select([self.ours], [], [], max(until - time.monotonic(), 0.0))
        assert ready, f"nothing more came: {self.shown}"
        try:
            part = os.read(self.ours, 65_536)
        except OSError:  # what Linux answers when nobody holds the other end any more
            return False
        self.raw += part.decode()
        return bool(part)


@contextmanager
def on_terminal(*arguments: str, columns: int = 160, **environment: str) -> Iterator[Terminal]:
    """Run `pgw` with all three streams on a terminal."""
    ours, theirs = os.openpty()
    environ = {**os.environ, "COLUMNS": str(columns), "LINES": "40", "TERM": "xterm-256color", **environment}
    command = [sys.executable, "-m", "pgw.cli", *arguments]
    try:
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ) as process:
            os.close(theirs)
            try:
                yield Terminal(process, ours)
            finally:
                process.kill()
    finally:
        os.close(ours)
