"""Commands, a folder -> the last command running exactly as long as whoever holds this process's standard input.

The starter may be killed without a chance to clean up; the kernel still closes its end of the pipe, and that is what
ends the server here. The guard leads a session of its own, so a signal to the starter's group does not reach it.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys

STOP_LIMIT_S = 10
"""How long a server may take to stop before it is killed; both servers need about 10 ms."""


def main() -> int:
    """Run the commands one after another, the last for as long as the starter lives, and remove the folder."""
    order = json.loads(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for command in order["commands"]:
            code = _run(command, order["folder"], order["user"], order["ready"].encode())
            if code != 0:
                return code
    finally:
        shutil.rmtree(order["folder"], ignore_errors=True)
    return 0


def _run(command: list[str], folder: str, user: int | None, ready: bytes) -> int:
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        user=user,
        group=user,
        extra_groups=None if user is None else (),
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
    ) as process:
        try:
            return process.wait() if _ended(process, ready) else 1
        finally:
            _stop(process)


def _ended(process: subprocess.Popen[bytes], ready: bytes) -> bool:
    """Echo the output up to the ready line, then only drain it; tell whether the process ended before the starter."""
    assert process.stdout is not None
    seen = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while not any(key.fileobj is sys.stdin for key, _ in selector.select()):
            chunk = os.read(process.stdout.fileno(), 65_536)
            if not chunk:
                return True
            if ready not in seen:
                seen += chunk
                with contextlib.suppress(BrokenPipeError):
                    os.write(sys.stdout.fileno(), chunk)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGINT stops both servers at once, clients or not (PostgreSQL calls it fast; SIGTERM would wait for clients)."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()


if __name__ == "__main__":
    sys.exit(main())
