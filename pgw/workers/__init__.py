"""Loops beside the requests: each does one thing, again and again."""
