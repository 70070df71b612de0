"""Bytes -> values, values -> answers: strict decoding with every fault named, card data refused before all else."""

from collections.abc import Callable
from enum import Enum
from functools import partial
from itertools import chain, islice
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec
from sanic import HTTPResponse, Request

from pgw.core.errors import Code, FieldError, PgwError
from pgw.core.payment import card_data
from pgw.malformed import MALFORMED

T = TypeVar("T", bound=msgspec.Struct)

MAX_BODY = 64 * 1024

MAX_FAULTS = 50
"""Faults named in one answer: a body of unknown members must not make a longer answer than it is itself."""

NOT_JSON = "the body is not a JSON document"
ANY_CHOICE = "one of the values it may have"

MAX_PARAMETERS, MAX_ESCAPES = 32, 1536
"""Parameters and escaped bytes of a query that are decoded; no route has parameters for as many."""

_JSON = msgspec.json.Decoder(msgspec.Raw)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_body(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a JSON body. Raises PgwError: card data, a foreign content type, no JSON, or each member that is wrong."""
    raw: bytes = request.body
    if card_data.may_hold_card_data(raw) and card_data.in_json(raw):
        raise card_data_refusal()
    content_type = request.headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise PgwError(Code.UNSUPPORTED_MEDIA_TYPE, "send the body as application/json")
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as fault:
        raise _refusal(raw, decoder.type, str(fault)) from None
    except MALFORMED:
        raise PgwError(Code.INVALID_REQUEST, NOT_JSON) from None


def _refusal(raw: bytes, kind: Any, message: str) -> PgwError:
    """Look at the whole document: the decoder stopped at its first fault, and may not have seen that it is JSON.

    Members stay undecoded until their type is known: without it a number may take 10 us to decode, and a list any time.
    """
    try:
        raw.decode()
        _JSON.decode(raw)
        return invalid(*_faults(_MEMBERS.decode(raw), kind, message, _read_json))
    except msgspec.ValidationError:
        return invalid(FieldError("", "must be a JSON object"))
    except MALFORMED:
        return PgwError(Code.INVALID_REQUEST, NOT_JSON)


def read_query(request: Request, kind: type[T]) -> T:
    """Decode the query string into `kind`; a member given twice, not known, or without a value is refused."""
    if request.query_string.count("&") >= MAX_PARAMETERS or request.query_string.count("%") > MAX_ESCAPES:
        limits = f"{MAX_PARAMETERS} parameters or {MAX_ESCAPES} escaped bytes"
        raise PgwError(Code.INVALID_REQUEST, f"the query has more than {limits}")
    document: dict[str, Any] = {}
    for name, value in request.get_query_args(keep_blank_values=True):
        if name in document:
            raise invalid(FieldError(f"/{_escaped(name)}", "is given more than once"))
        document[name] = value
    try:
        query = msgspec.convert(document, kind, strict=False)
    except msgspec.ValidationError as fault:
        raise invalid(*_faults(document, kind, str(fault), partial(msgspec.convert, strict=False))) from None
    # `since=null` must not read as no filter at all.
    if absent := [name for name in document if getattr(query, name) is None]:
        raise invalid(*(FieldError(f"/{name}", "must have a value, or be left out") for name in absent))
    return query


def invalid(*errors: FieldError) -> PgwError:
    """Refuse a document, naming the members at fault."""
    listed = "; ".join(f"{each.pointer or '/'} {each.detail}" for each in errors)
    return PgwError(Code.INVALID_REQUEST, listed, errors=errors)


def card_data_refusal() -> PgwError:
    """Refuse card data without repeating any of it."""
    return PgwError(
        Code.CARD_DATA_NOT_ACCEPTED,
        "the request holds a full card number or a security code: pgw takes tokens only; nothing was kept or logged",
    )


def _read_json(raw: msgspec.Raw, type: Any) -> object:  # noqa: A002  # as `msgspec.convert` has it
    return msgspec.json.decode(raw, type=type)


def _faults(
    document: dict[str, Any], kind: Any, message: str, read: Callable[[Any, Any], object]
) -> tuple[FieldError, ...]:
    """Check each member of the outermost object by itself, so that all faults are named and not only the first."""
    hints = get_type_hints(kind, include_extras=True)
    found: list[FieldError] = []
    for field in msgspec.structs.fields(kind):
        if field.encode_name not in document:
            if field.required:
                found.append(FieldError(f"/{field.encode_name}", "is required"))
            continue
        try:
            read(document[field.encode_name], hints[field.name])
        except msgspec.ValidationError as fault:
            found.append(_field_error(str(fault), f"/{field.encode_name}", _choices(hints[field.name])))
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    unknown = (FieldError(f"/{_escaped(name)}", "is not known") for name in document if name not in known)
    return tuple(islice(chain(found, unknown), MAX_FAULTS)) or (_field_error(message, ""),)


def _field_error(message: str, pointer: str, choices: str = ANY_CHOICE) -> FieldError:
    """Turn msgspec's `Expected ... - at `$.a[0].b`` into a pointer and a detail, without the value it may repeat."""
    detail, path = message, ""
    if message.endswith("`") and " - at `" in message:
        detail, _, path = message.rpartition(" - at `")
    steps = path.rpartition("$")[2].rstrip("`").replace("[...]", "").replace("[", ".").replace("]", "")
    pointer += steps.replace(".", "/")
    name = detail.partition("`")[2].removesuffix("`")
    if detail.startswith("Object contains unknown field"):
        return FieldError(f"{pointer}/{_escaped(name)}", "is not known")
    if detail.startswith("Object missing required field"):
        return FieldError(f"{pointer}/{name}", "is required")
    if detail.startswith("Invalid") and detail.endswith("'"):
        return FieldError(pointer, f"must be {choices}")
    return FieldError(pointer, f"{detail[:1].lower()}{detail[1:]}".rstrip())


def _choices(hint: Any) -> str:
    """Name the values of a member that has a fixed few."""
    kinds = [kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and issubclass(kind, Enum)]
    return f"one of {', '.join(each.value for each in kinds[0])}" if kinds else ANY_CHOICE


def _escaped(name: str) -> str:
    """RFC 6901, section 3; an unknown name is cut, it may be anything."""
    return name[:64].replace("~", "~0").replace("/", "~1")


def json_answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> HTTPResponse:
    """Write a value as JSON."""
    return HTTPResponse(msgspec.json.encode(document), status=status, headers=headers, content_type="application/json")
