"""`python -m tests.simulation SEED` -> the story of one run, and what is wrong with it; exit code 1 if anything is."""

import sys

from tests.simulation.checks import faults
from tests.simulation.run import simulate


def main() -> int:
    run = simulate(int(sys.argv[1]))
    print("\n".join(run.story))
    found = faults(run)
    print("\n".join(found or ["nothing is wrong"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
