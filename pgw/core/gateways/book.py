"""Sandbox outcomes -> an append-only file, which survives a restart and is shared by every process."""

import fcntl
import os
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec import Struct

from pgw.malformed import MALFORMED


class BookStatus(StrEnum):
    """What a line of the book records."""

    CAPTURED = "CAPTURED"
    DECLINED = "DECLINED"
    REVERSED = "REVERSED"


class BookLine(Struct, frozen=True, kw_only=True):
    """One outcome. `effective_at` is in the future for a late capture. `reason`: of a reversal, its key."""

    payment_id: str
    attempt_number: int
    gateway_id: str
    amount_minor: int
    currency: str
    status: BookStatus
    transaction_ref: str
    reason: str | None
    effective_at: datetime


class Charge(Struct, frozen=True, kw_only=True):
    """One movement of money, for display."""

    payment_id: str
    attempt_number: int
    gateway_id: str
    amount_minor: int
    currency: str
    status: BookStatus


class SandboxBook:
    """The file. A line is written with one append, which the kernel keeps whole, before the gateway answers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._read_to = 0
        self._lines: dict[tuple[str, str, int], list[BookLine]] = {}
        self._decoder = msgspec.json.Decoder(BookLine)

    def write(self, *lines: BookLine) -> None:
        """Append outcomes; they survive the process, but without fsync not the machine: it is a sandbox."""
        os.write(self._opened(), b"".join(msgspec.json.encode(line) + b"\n" for line in lines))

    def reverse(self, transaction_ref: str, key: str, now: datetime) -> BookLine | None:
        """Refund captured money, once among all processes; None where there is none, or another key has refunded it."""
        descriptor = self._opened()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            self._catch_up()
            of_it = [
                line for lines in self._lines.values() for line in lines if line.transaction_ref == transaction_ref
            ]
            made = next((line for line in of_it if line.status is BookStatus.REVERSED), None)
            if made is not None:
                return made if made.reason == key else None
            taken = next(
                (line for line in of_it if line.status is BookStatus.CAPTURED and line.effective_at <= now), None
            )
            if taken is None:
                return None
            line = msgspec.structs.replace(taken, status=BookStatus.REVERSED, reason=key, effective_at=now)
            self.write(line)
            return line
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _opened(self) -> int:
        if self._descriptor is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                # A writer died in the middle of a line, which the next one must not continue.
                os.write(self._descriptor, b"\n")
        return self._descriptor

    def find(self, gateway_id: str, payment_id: str, attempt_number: int, now: datetime) -> BookLine | None:
        """Return the newest outcome of one attempt that has taken effect by `now`."""
        self._catch_up()
        lines = self._lines.get((gateway_id, payment_id, attempt_number), ())
        return next((line for line in reversed(lines) if line.effective_at <= now), None)

    def charges(self, now: datetime) -> list[Charge]:
        """List every capture and reversal that has taken effect by `now`, attempt by attempt."""
        self._catch_up()
        return [
            msgspec.convert(line, Charge, from_attributes=True)
            for lines in self._lines.values()
            for line in lines
            if line.status is not BookStatus.DECLINED and line.effective_at <= now
        ]

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _catch_up(self) -> None:
        """Read what any process has appended since; a line still being written is left to the next call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            for text in file:
                if not text.endswith(b"\n"):
                    break
                self._read_to += len(text)
                try:
                    line = self._decoder.decode(text)
                except MALFORMED:
                    continue
                self._lines.setdefault((line.gateway_id, line.payment_id, line.attempt_number), []).append(line)
