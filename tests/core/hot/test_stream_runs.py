"""What needs no Redis: numbers are cut into runs without losing one, and who has no Redis does not load its client."""

import subprocess
import sys
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pgw.core.hot.stream import _runs


@given(st.sets(st.integers(1, 60), min_size=1))
def test_runs_name_every_number_once_and_none_between(numbers: set[int]) -> None:
    runs = _runs(sorted(numbers))
    assert [n for first, last in runs for n in range(first, last + 1)] == sorted(numbers)
    assert all(left[1] + 1 < right[0] for left, right in pairwise(runs))


def test_the_client_of_redis_is_loaded_only_to_connect() -> None:
    """It costs 150 ms of every start."""
    script = "import sys, pgw.core.hot.in_process, pgw.core.hot.stream; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
