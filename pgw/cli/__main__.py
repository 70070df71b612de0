"""`python -m pgw.cli` -> the same as `pgw`."""

from pgw.cli.app import main

if __name__ == "__main__":
    main()
