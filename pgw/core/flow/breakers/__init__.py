"""Breakers."""
