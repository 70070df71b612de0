"""`PHASE before|after|held`, arguments -> `pgw` that kills itself at a phase's commit, or a charge, or is held there.

`send held`: held when it is about to charge.

Run as a script by the tests; nothing of it is in pgw.
"""

import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from pgw.cli.app import main
from pgw.core.gateways.book import Book
from pgw.core.gateways.sandbox import Sandbox
from pgw.core.ledger.on_postgres import OnPostgres
from pgw.core.ledger.on_sqlite import OnSqlite


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hold() -> None:
    """Stand still, the deed done, until somebody lets this process go on."""
    os.kill(os.getpid(), signal.SIGSTOP)


def _dying(act: Callable[..., Any], moment: str, is_meant: Callable[..., bool]) -> Callable[..., Any]:
    def acting(self: Any, *arguments: Any) -> Any:
        meant = is_meant(*arguments)
        if meant and moment == "before":
            _die()
        done = act(self, *arguments)
        if meant:
            _hold() if moment == "held" else _die()
        return done

    return acting


def _holding(act: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def acting(self: Any, *arguments: Any) -> Any:
        _hold()
        return await act(self, *arguments)

    return acting


def _arm(phase: str, moment: str) -> None:
    if phase == "send":
        Sandbox.charge = _holding(Sandbox.charge)  # type: ignore[method-assign]
        return
    if phase == "charge":
        Book.write = _dying(Book.write, moment, lambda *_: True)  # type: ignore[method-assign]
        return

    def is_meant(groups: Any) -> bool:
        return any(each.name == phase for each, _ in groups)

    for runner in (OnSqlite, OnPostgres):
        runner.run = _dying(runner.run, moment, is_meant)  # type: ignore[method-assign]


if __name__ == "__main__":
    _arm(*sys.argv[1:3])
    sys.argv[1:3] = []
    main()
