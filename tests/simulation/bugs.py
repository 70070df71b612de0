"""What pgw logs while it is simulated -> the bugs in it: exceptions that no gateway was told to raise.

A worker that meets one logs it and goes on with the next payment, as it must; here it is a fault.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from tests.fake_gateway import AdapterError

PGW = logging.getLogger("pgw")


class _Bugs(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        fault = record.exc_info[1] if record.exc_info else None
        if fault is not None and not isinstance(fault, AdapterError):
            self.found.append(f"{record.getMessage()}: {fault!r}")


@contextmanager
def listening() -> Iterator[list[str]]:
    """Give the bugs that are logged meanwhile; nothing of what is logged goes anywhere else."""
    heard = _Bugs()
    kept = PGW.level, PGW.propagate
    PGW.addHandler(heard)
    PGW.setLevel(logging.ERROR)
    PGW.propagate = False
    try:
        yield heard.found
    finally:
        PGW.removeHandler(heard)
        PGW.setLevel(kept[0])
        PGW.propagate = kept[1]
