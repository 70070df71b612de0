"""Loops beside the requests, embedded in a server or in worker processes of their own."""
