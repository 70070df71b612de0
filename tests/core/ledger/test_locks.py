"""Which phases lock their payments is no matter of memory: each that books money or writes or reads a payment does."""

import re
from importlib import import_module
from pkgutil import iter_modules

import pytest

from pgw.core import ledger
from pgw.core.ledger.engine.on_postgres import PostgresStatements
from pgw.core.ledger.engine.phase import Phase
from pgw.core.ledger.payments import OPEN

PHASES = sorted(
    {
        each
        for module in iter_modules(ledger.__path__, "pgw.core.ledger.")
        for each in vars(import_module(module.name)).values()
        if isinstance(each, Phase)
    },
    key=lambda each: each.name,
)

TOUCHES = re.compile(r"\b(UPDATE|FROM|JOIN|INTO) (payments|transfers)\b")


@pytest.mark.parametrize("phase", [each for each in PHASES if each is not OPEN], ids=lambda each: each.name)
def test_a_phase_locks_its_payments_if_and_only_if_it_touches_payments_or_transfers(phase: Phase) -> None:
    assert phase.locks is bool(TOUCHES.search(PostgresStatements(phase).text))


def test_an_open_locks_nothing_for_its_payment_is_not_there_yet() -> None:
    assert not OPEN.locks
