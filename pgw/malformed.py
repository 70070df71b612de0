"""Bytes that are no document -> MALFORMED: every exception that decoding raises for them, in every msgspec we allow."""

import msgspec

MALFORMED = (msgspec.DecodeError, UnicodeError, RecursionError)
"""No JSON or not of the form asked for, no UTF-8, nested too deep. To be caught whole: msgspec 0.20 raises Python's own
UnicodeDecodeError for invalid UTF-8, 0.23 a DecodeError; and only the newer DecodeError is a ValueError."""
