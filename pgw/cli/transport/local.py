"""Settings -> the running server of this ledger on this machine, if there is one: `serve.json`, believed with care."""

import json
import os
import stat
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pgw.addresses import LOOPBACK
from pgw.cli.exits import CommandError
from pgw.settings import Settings

if TYPE_CHECKING:
    from pgw.cli.transport.network import NetworkTransport


def running_server(settings: Settings) -> "NetworkTransport | None":
    """Return a connection to the server that `serve.json` names, or None when none runs on this ledger.

    A file left behind by a killed server may name a port that another program has by now: when no server listens
    at the address there is no server, whatever the file says.
    """
    note = _read(settings.home / "serve.json")
    if note is None or not _is_ours(note, settings):
        return None
    from pgw.cli.transport.network import NetworkTransport  # noqa: PLC0415  # http.client: only when a server is there

    try:
        return NetworkTransport(note["address"])
    except CommandError as error:
        if isinstance(error.__cause__, ConnectionRefusedError):
            return None
        raise


def fingerprint(database: str) -> str:
    """Return what `serve.json` may say of a ledger: enough to recognise it, nothing of its password."""
    return sha256(database.encode()).hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    """Read the file if it is this user's alone: the key goes to the address it names, and a home may be anybody's."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
                return None
            note = json.load(file)
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) else None


def _is_ours(note: dict[str, Any], settings: Settings) -> bool:
    pid, address, database = note.get("pid"), note.get("address"), note.get("database")
    if not isinstance(pid, int) or not isinstance(address, str) or database != fingerprint(settings.database):
        return False
    # An address elsewhere is not a server of this machine; PGW_SERVER is the way to say so on purpose.
    host = urlsplit(address).hostname
    return host in {*LOOPBACK, settings.bind_host} and pid != os.getpid() and _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
