"""Bytes -> values, values -> answers: strict decoding with every fault named, card data refused before all else."""

from typing import Any, TypeVar, get_type_hints

import msgspec
from sanic import HTTPResponse, Request

from pgw.core import card_data
from pgw.core.errors import Code, FieldError, PgwError

T = TypeVar("T", bound=msgspec.Struct)

MAX_BODY = 64 * 1024


def read_body(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a JSON body. Raises PgwError: card data, a foreign content type, no JSON, or each member that is wrong."""
    raw: bytes = request.body
    if card_data.may_hold_card_data(raw):
        _refuse_card_data(raw)
    content_type = request.headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise PgwError(Code.UNSUPPORTED_MEDIA_TYPE, "send the body as application/json")
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as fault:
        raise invalid(*_faults(msgspec.json.decode(raw), decoder.type, str(fault))) from None
    except (msgspec.DecodeError, RecursionError):
        raise PgwError(Code.INVALID_REQUEST, "the body is not a JSON document") from None


def read_query(request: Request, kind: type[T]) -> T:
    """Decode the query string into `kind`; a member given twice or not known is refused."""
    document: dict[str, Any] = {}
    for name, value in request.get_query_args(keep_blank_values=True):
        if name in document:
            raise invalid(FieldError(f"/{_escaped(name)}", "is given more than once"))
        document[name] = value
    try:
        return msgspec.convert(document, kind, strict=False)
    except msgspec.ValidationError as fault:
        raise invalid(*_faults(document, kind, str(fault), strict=False)) from None


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


def _refuse_card_data(raw: bytes) -> None:
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        document = raw.decode("utf-8", "replace")
    if card_data.in_document(document):
        raise card_data_refusal()


def _faults(document: Any, kind: Any, message: str, *, strict: bool = True) -> tuple[FieldError, ...]:
    """Check each member of the outermost object by itself, so that all faults are named and not only the first."""
    if not isinstance(document, dict):
        return (FieldError("", "must be a JSON object"),)
    hints = get_type_hints(kind, include_extras=True)
    found: list[FieldError] = []
    for field in msgspec.structs.fields(kind):
        if field.encode_name not in document:
            if field.required:
                found.append(FieldError(f"/{field.encode_name}", "is required"))
            continue
        try:
            msgspec.convert(document[field.encode_name], hints[field.name], strict=strict)
        except msgspec.ValidationError as fault:
            found.append(_field_error(str(fault), f"/{field.encode_name}"))
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    found += [FieldError(f"/{_escaped(name)}", "is not known") for name in document if name not in known]
    return tuple(found) or (_field_error(message, ""),)


def _field_error(message: str, prefix: str) -> FieldError:
    """Turn msgspec's `Expected ... - at `$.a[0].b`` into a pointer and a detail; its messages never repeat a value."""
    detail, _, path = message.partition(" - at `")
    steps = path.rstrip("`").removeprefix("$").replace("[...]", "").replace("[", ".").replace("]", "")
    return FieldError(prefix + steps.replace(".", "/"), detail[:1].lower() + detail[1:])


def _escaped(name: str) -> str:
    """RFC 6901, section 3; an unknown name is cut, it may be anything."""
    return name[:64].replace("~", "~0").replace("/", "~1")


def json_answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> HTTPResponse:
    """Write a value as JSON."""
    return HTTPResponse(msgspec.json.encode(document), status=status, headers=headers, content_type="application/json")
