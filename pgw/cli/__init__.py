"""The command line: one client of the HTTP contract, for operators and scripts."""
