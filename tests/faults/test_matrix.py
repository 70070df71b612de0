"""The page of faults: each fault has a test that says what it saw, or a reason why none can."""

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.matrix import FAULTS
from tests.faults.page import MATRIX, ROOT, matrix, section, sights

SIGHTS = tuple(sights(FAULTS))


def test_faults_are_numbered_in_their_order() -> None:
    assert [each.number for each in FAULTS] == list(range(1, len(FAULTS) + 1))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: str(each.number))
def test_each_fault_was_seen_or_says_why_not(fault: object) -> None:
    seen = Counter(each.number for each in SIGHTS)
    assert isinstance(fault, type(FAULTS[0]))
    assert bool(seen[fault.number]) != bool(fault.why_not)


@pytest.mark.parametrize("sight", SIGHTS, ids=lambda each: f"{each.number} {each.case}".strip())
def test_each_line_names_a_test_that_is_there_and_speaks_of_it(sight: object) -> None:
    assert isinstance(sight, type(SIGHTS[0]))
    path, _, name = sight.test.partition("::")
    text = (ROOT / Path(path)).read_text()
    assert f"def {name}(" in text
    assert f"saw({sight.number}, " in text


def test_the_page_says_nothing_beside_it() -> None:
    """Lines that no test wrote are gone."""
    assert section(MATRIX) == matrix(FAULTS, sorted(SIGHTS))
