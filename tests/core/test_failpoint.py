"""A failpoint reads as it is written, names an injection point that exists, and every phase and call has a case."""

import inspect

import pytest

from pgw.core.ports import Gateway
from pgw.failpoints import CALLS, Failpoint, FailpointAction, Side, injection_points, parse, phases
from tests.seams.crossings import COVERED, NOT_COVERED

PHASES = 26
"""How many kinds of writes the ledger has: one more needs its case, or a reason why it has none."""


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("charge:after:exit", Failpoint("charge", Side.AFTER, FailpointAction.EXIT)),
        ("open:before:stop", Failpoint("open", Side.BEFORE, FailpointAction.STOP)),
        ("claim_watch:after:exit:2", Failpoint("claim_watch", Side.AFTER, FailpointAction.EXIT, 2)),
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
def test_anything_else_is_refused_with_the_list_of_injection_points(text: str) -> None:
    with pytest.raises(ValueError, match=", ".join(injection_points())):
        parse(text)


def test_every_phase_of_the_ledger_is_an_injection_point() -> None:
    """The phases are found in the modules of the ledger, two of which are named here."""
    assert {"open", "record_minute"} <= set(phases())
    assert len(phases()) == len(set(phases())) == PHASES


def test_every_call_of_a_gateway_is_an_injection_point() -> None:
    calls = {name for name, each in vars(Gateway).items() if inspect.iscoroutinefunction(each)}
    assert sorted(calls - {"close"}) == sorted(CALLS)


def test_every_injection_point_has_its_death_in_the_suite_or_a_reason_why_not() -> None:
    assert sorted((*COVERED, *NOT_COVERED)) == sorted(injection_points())
    assert all(NOT_COVERED.values())
