"""A refusal costs no more than its size: few steps of Python a byte, only linear C code.

Steps are counted, not timed: `benchmarks/refusals.py` has the times. A call of C code is one step here however long it
takes, so which of them see text from outside is a closed list.
"""

import ast
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

from pgw.core.errors import PgwError
from pgw.core.payment import card_data, card_number
from pgw.core.verification.webhook import is_signed
from pgw.server.http import codec, guards
from pgw.server.http.guards import HttpRequest
from pgw.server.routes.payments import _REQUEST, ListQuery
from tests.server.junk import BODIES, HEADER, TARGETS, VALUES, asked

MOST_STEPS_PER_BYTE = 8
SIZES = (16 * 1024, 32 * 1024, 64 * 1024)
SCANS = (card_data, card_number)
READERS = (*SCANS, codec, guards)


def _refuse(request: HttpRequest) -> None:
    """Run what every request runs in its handler before it is refused."""
    if guards._carries_card_data(request):
        return
    guards._is_malformed(request)
    try:
        if request.query_string:
            codec.read_query(request, ListQuery)
        codec.read_body(request, _REQUEST)
    except PgwError:
        return
    pytest.fail("junk is refused")


def _steps(run: Callable[[], object]) -> int:
    """Count the opcodes that run executes, in our code and in what it calls."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", BODIES)
def test_a_body_of_junk_is_refused_in_few_steps_a_byte(kind: str, size: int) -> None:
    body = BODIES[kind](size)
    assert size * 0.75 < len(body) <= size
    assert _steps(lambda: _refuse(asked(body=body))) <= MOST_STEPS_PER_BYTE * len(body)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_target_of_junk_is_refused_in_few_steps_a_byte(kind: str) -> None:
    request = asked(TARGETS[kind])
    assert _steps(lambda: _refuse(request)) <= MOST_STEPS_PER_BYTE * len(TARGETS[kind])


@pytest.mark.parametrize("header", ["X-Request-Id", "Idempotency-Key"])
@pytest.mark.parametrize("kind", VALUES)
def test_a_header_of_junk_is_refused_in_few_steps_a_byte(kind: str, header: str) -> None:
    request = asked(headers={header: VALUES[kind]}, body=b"{}")
    assert _steps(lambda: _refuse(request)) <= MOST_STEPS_PER_BYTE * HEADER


@pytest.mark.parametrize(
    "query", ["a=1&" * codec.MAX_PARAMETERS, "a=" + "%34" * (codec.MAX_ESCAPES + 1)], ids=["parameters", "escapes"]
)
def test_a_query_of_more_than_any_route_has_is_refused_before_it_is_decoded(query: str) -> None:
    with pytest.raises(PgwError, match="the query has more than"):
        codec.read_query(asked(f"/payments?{query}".encode()), ListQuery)


def test_a_webhook_that_is_not_signed_is_refused_without_a_step_for_its_bytes() -> None:
    small, large = (_steps(partial(is_signed, b"1" * size, "0" * 64, ("secret",))) for size in (1, 2**20))
    assert large == small


PIECES = st.sampled_from(
    [
        *(b"4", b"0", b"6 ", b"5-", b"1e9", b"e", b".", b"-", b",", b":", b'"', b"[", b"]", b"{", b"}", b"true"),
        *(b"\\", b"\\u0034", b"\\ud835", b'"a":', b'"a",', b'"cvv":', b"4e15,", b"0.0"),
        *(b"\xff", "\xe9".encode(), "\u0664".encode()),
        *(b"4111111111111111", b"4000000000000000", b"01890a5d-ac96-774b-bcce-b302099a8057"),
    ]
)
UNITS = st.lists(PIECES, min_size=1, max_size=8).map(b"".join)
FRAMES = st.sampled_from([(b"", b""), (b'{"x":"', b'"}'), (b'{"x":[', b"1]}"), (b'{"metadata":{', b"}}"), (b"{", b"}")])


@settings(max_examples=150, deadline=None)
@given(FRAMES, st.lists(UNITS, min_size=1, max_size=3))
def test_no_body_that_can_be_found_takes_more_steps(frame: tuple[bytes, bytes], units: list[bytes]) -> None:
    (opened, closed), size = frame, SIZES[0]
    room = (size - len(opened) - len(closed)) // len(units)
    body = opened + b"".join(unit * (room // len(unit)) for unit in units) + closed
    per_byte = _steps(lambda: _refuse_or_take(body)) / size
    target(per_byte)
    assert per_byte <= MOST_STEPS_PER_BYTE


def _refuse_or_take(body: bytes) -> None:
    request = asked(body=body)
    try:
        codec.read_body(request, _REQUEST)
    except PgwError:
        return


def test_the_search_would_find_a_step_for_every_byte() -> None:
    assert _steps(lambda: [-each for each in b"1" * SIZES[0]]) > SIZES[0]


SCANNING_CALLS = {
    # One pass over the text, or two.
    *("translate", "replace", "split", "join", "partition", "decode", "encode", "isascii", "lower"),
    # One pass over the integer made of the text, whose base is a power of two.
    *("from_bytes", "to_bytes"),
    # Patterns: none repeats a repetition, an unbounded one is possessive or begins where no other match of it could,
    # and a row that is too short is tried again from at most 12 places.
    *("search", "sub", "findall", "finditer", "group"),
    # Of at most MAX_LARGE_FLOATS numbers, each below 10^19 where it is written out.
    *("float", "int", "str", "is_integer", "islice", "list"),
    # Of the distinct characters of a text, decimal digits and separators by then; of the names of codes; of the tables.
    *("set", "ord", "decimal", "map", "any", "values", "len", "range", "bool", "bytes"),
}
"""All that the scan calls by name and does not define itself."""


def _called_inside_functions(path: str) -> set[str]:
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name != "_table"]
    calls = [node for each in functions for node in ast.walk(each) if isinstance(node, ast.Call)]
    return {each.func.id if isinstance(each.func, ast.Name) else getattr(each.func, "attr", "?") for each in calls}


def test_the_scan_calls_only_what_is_linear() -> None:
    own = {name for module in SCANS for name in vars(module) if callable(getattr(module, name))} | {"of", "within"}
    found = {name for module in SCANS for name in _called_inside_functions(str(module.__file__))}
    assert found - own - SCANNING_CALLS == set()


C_CALLS = SCANNING_CALLS | {
    # Of headers, and of the members and parameters of one request's type, a few dozen at most.
    *("getall", "get", "strip", "append", "count", "items", "keys", "hasattr", "getattr", "isinstance", "issubclass"),
    # msgspec: one pass over the bytes; what is not asked for by a type is skipped, not decoded.
    *("convert", "json_decode"),
    # Of msgspec's message, which may hold a name as long as the body.
    *("endswith", "startswith", "rpartition", "removesuffix", "rstrip"),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_refusal_calls_only_c_code_that_is_linear(kind: str) -> None:
    files = {module.__file__ for module in READERS}
    found: set[str] = set()

    def profile(frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and frame.f_code.co_filename in files:
            found.add(called.__name__)

    request = asked(body=BODIES[kind](SIZES[0]))
    sys.setprofile(profile)
    try:
        _refuse(request)
    finally:
        sys.setprofile(None)
    assert found - C_CALLS == set()


def test_refusals_decode_nothing_without_a_type() -> None:
    """A float decoded without need took 12 us; what is skipped takes a few ns a byte."""
    assert codec._JSON.type is msgspec.Raw
    assert codec._MEMBERS.type == dict[str, msgspec.Raw]
