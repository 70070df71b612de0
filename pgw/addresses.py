"""Addresses -> their parts, and whether what is sent there could be read on the way."""

from urllib.parse import SplitResult, parse_qs, urlsplit

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})


def parts_of(url: str) -> SplitResult | None:
    """Split an address; None where it is none. Python's own error would repeat it, and with it a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def is_plaintext_elsewhere(url: str) -> bool:
    """Whether libpq might send plaintext to another host: its query beats the address, and may name several hosts."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    named = [each for name in ("host", "hostaddr") for value in query.get(name, ()) for each in value.split(",")]
    hosts = named or [parts.hostname or ""]
    local = all(not host or host.startswith("/") or host in LOOPBACK for host in hosts)
    return not local and query.get("sslmode", [""])[-1] not in ENCRYPTED
