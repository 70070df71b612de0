"""A run of nine days -> without the log that it would fill: what it has to say stands in its story."""

from collections.abc import Iterator

import pytest

from tests.simulation.bugs import listening


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    with listening():
        yield
