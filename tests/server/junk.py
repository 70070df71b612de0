"""Sizes -> requests that mean nothing: each kind fills its size with what some step of a refusal could be slow at."""

from collections.abc import Callable

from sanic.compat import Header

from pgw.server.http.guards import HttpRequest

NOT_A_NUMBER = b"4000000000000000"
"""Of a card number's length and first digit; its Luhn sum is 8."""


def _list(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: b'{"x":[' + unit * ((size - 9) // len(unit)) + b"1]}"


def _text(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: b'{"x":"' + unit * ((size - 8) // len(unit)) + b'"}'


def _members(name: Callable[[int], bytes]) -> Callable[[int], bytes]:
    def body(size: int) -> bytes:
        count = size // (len(name(size)) + 5)
        return b"{" + b",".join(b'"%b":1' % name(number) for number in range(count)) + b"}"

    return body


BODIES: dict[str, Callable[[int], bytes]] = {
    "floats, huge": _list(b"1e308,"),
    "floats, 1e99": _list(b"1e99,"),
    "floats beyond every double": _list(b"1e400,"),
    "floats of a card number's size": _list(b"4e15,"),
    "floats, small": _list(b"0.5,"),
    "floats, long fractions": _list(b"0." + NOT_A_NUMBER + b","),
    "floats, many digits": _list(NOT_A_NUMBER + b".5,"),
    "floats with zeros": _list(b"0.01e300,"),
    "floats, one long": lambda size: b'{"x":0.' + b"1" * (size - 12) + b"e19}",
    "integers, small": _list(b"1,"),
    "integers of a card number's size": _list(NOT_A_NUMBER + b","),
    "integers, 4299 digits": _list(b"9" * 4299 + b","),
    "integer, one": lambda size: b'{"amount_minor":' + b"9" * (size - 17) + b"}",
    "digits in text": _text(b"4"),
    "digits, twelve at a time": _text(b"400000000000,"),
    "digits, one at a time": _text(b"4 0 0 0 "),
    "digits in groups with dashes": _text(b"4000-0000-0000-0000-"),
    "digits in runs of every length": _text(
        b" ".join(b"600000000000000000000"[:each] for each in range(13, 20)) + b" "
    ),
    "digits in separate runs": _text(NOT_A_NUMBER + b"|"),
    "digits of another script": _text("\u0664 \u0660\u0660".encode()),
    "digits, wide": _text("\uff14".encode()),
    "digits between letters": _text("4\xe9".encode()),
    "letters outside ASCII": _text("\xe9".encode()),
    "escaped digits": _text(b"\\u0034"),
    "escaped letters": _text(b"\\u00e9"),
    "escaped halves of characters": _text(b"\\ud835\\udfd2"),
    "escaped backslashes": _text(b"\\\\"),
    "escaped quotes": _text(b'\\"'),
    "escapes of nothing": _text(b"\\q"),
    "strings": _list(b'"a",'),
    "strings, empty": _list(b'"",'),
    "names of codes": _list(b'"cvv",'),
    "UUIDs": _text(b"01890a5d-ac96-774b-bcce-b302099a8057,"),
    "lists": _list(b"[],"),
    "objects": _list(b"{},"),
    "nested lists": lambda size: b'{"x":' + b"[" * (size - 5),
    "nested objects": lambda size: b'{"x":' * (size // 5),
    "nested 900 deep": lambda size: b'{"x":[' + (b"[" * 900 + b"]" * 900 + b",") * ((size - 9) // 1801) + b"1]}",
    "members": _members(lambda number: b"%06d" % number),
    "members with one name": _members(lambda _: b"x"),
    "members with long names": _members(lambda number: b"%06d" % number + b"n" * 250),
    "member with the longest name": lambda size: b'{"' + b"n" * (size - 6) + b'":1}',
    "metadata": lambda size: b'{"metadata":' + _members(lambda number: b"%06d" % number)(size - 13) + b"}",
    "invalid UTF-8": _text(b"\xff"),
    "invalid UTF-8 and digits": _text(b"4\xff"),
    "no JSON": lambda size: NOT_A_NUMBER * (size // 16),
    "no JSON, quotes": lambda size: b'"' * size,
    "no JSON, card numbers": lambda size: b"4111111111111111 " * (size // 17),
}

HEADER = 7 * 1024
"""What fits in the 8 KiB that Sanic reads of a request's head."""

TARGETS: dict[str, bytes] = {
    "escaped digits": b"/payments?ref=" + b"%34" * (HEADER // 3),
    "escapes of nothing": b"/payments?ref=" + b"%zz" * (HEADER // 3),
    "escapes outside UTF-8": b"/payments?ref=" + b"%ff4" * (HEADER // 4),
    "parameters": b"/payments?" + b"a=1&" * (HEADER // 4),
    "parameters without a value": b"/payments?" + b"a&" * (HEADER // 2),
    "delimiters": b"/payments?" + b"&" * HEADER,
    "escaped delimiters": b"/payments?" + b"%26" * (HEADER // 3),
    "digits": b"/payments?ref=" + b"4" * HEADER,
    "digits and plus": b"/payments?ref=" + b"4+0+0+0+" * (HEADER // 8),
}

VALUES: dict[str, str] = {
    "digits": "4" * HEADER,
    "groups": "4 0 0 0 " * (HEADER // 8),
    "escapes": "%34" * (HEADER // 3),
    "letters": "x" * HEADER,
    "outside ASCII": "\udce9" * HEADER,
}
"""Of X-Request-Id and Idempotency-Key."""


class _NoConnection:
    def get_protocol(self) -> None:
        return None


def asked(target: bytes = b"/payments", body: bytes = b"", headers: dict[str, str] | None = None) -> HttpRequest:
    """Make a request as the server makes it, without a connection."""
    request = HttpRequest(target, Header(headers or {}), "1.1", "POST", _NoConnection(), None)
    request.body = body
    request.head = b"\r\n".join(
        f"{name}: {value}".encode("utf-8", "surrogateescape") for name, value in request.headers.items()
    )
    return request
