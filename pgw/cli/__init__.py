"""The command line: one door onto the HTTP contract, for operators and scripts."""
