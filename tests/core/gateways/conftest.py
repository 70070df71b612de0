"""A test of the wire -> each way to carry its requests, with the secret looked for in everything that was logged."""

from collections.abc import Iterator

import pytest

from tests.core.gateways.carriers import BASIC, CARRIERS, SECRET, Carrier


@pytest.fixture(params=CARRIERS)
def carrier(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Carrier]:
    """Run the test over each carrier."""
    caplog.set_level("DEBUG")
    yield CARRIERS[request.param]
    assert [word for word in (SECRET, BASIC) if word in caplog.text] == []
