"""A failpoint is read as it is written, names a crossing that exists, and every phase and call there is has a case."""

import importlib
import inspect
import pkgutil

import pytest

import pgw.core.ledger
from pgw.core.failpoint import APPEND, CALLS, CROSSINGS, PHASES, Deed, Failpoint, Moment, parse
from pgw.core.ledger.engine.phase import Phase
from pgw.core.ports import Gateway
from tests.seams.crossings import COVERED, NOT_COVERED


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("charge:after:exit", Failpoint("charge", Moment.AFTER, Deed.EXIT)),
        ("open:before:stop", Failpoint("open", Moment.BEFORE, Deed.STOP)),
        ("claim_watch:after:exit:2", Failpoint("claim_watch", Moment.AFTER, Deed.EXIT, 2)),
    ],
)
def test_a_failpoint_reads_as_it_is_written(text: str, meant: Failpoint) -> None:
    assert parse(text) == meant
    assert str(meant) == text


@pytest.mark.parametrize(
    "text",
    [
        "charge",
        "charge:after",
        "charge:during:exit",
        "charge:after:raise",
        "charge:after:exit:0",
        "charge:after:exit:x",
        "charge:after:exit ",
        "Charge:after:exit",
        "charge:after:exit:2:3",
        "refund:after:exit",
    ],
)
def test_anything_else_is_refused_with_the_list_of_crossings(text: str) -> None:
    with pytest.raises(ValueError, match=", ".join(CROSSINGS)):
        parse(text)


def _phases() -> set[str]:
    """Name the phases of all modules of the ledger."""
    modules = [importlib.import_module(f"pgw.core.ledger.{each.name}") for each in pkgutil.iter_modules(_PATH)]
    return {each.name for module in modules for each in vars(module).values() if isinstance(each, Phase)}


_PATH = pgw.core.ledger.__path__


def test_every_phase_of_the_ledger_is_a_crossing() -> None:
    assert sorted(_phases()) == sorted(PHASES)


def test_every_call_of_a_gateway_is_a_crossing() -> None:
    calls = {name for name, each in vars(Gateway).items() if inspect.iscoroutinefunction(each)}
    assert sorted(calls - {"close"}) == sorted(CALLS)


def test_every_crossing_has_its_death_in_the_suite_or_a_reason_why_not() -> None:
    assert sorted((*COVERED, *NOT_COVERED)) == sorted({*PHASES, *CALLS, APPEND})
    assert all(NOT_COVERED.values())
