"""The operations -> their OpenAPI 3.1 document, built once from the shapes the code decodes and writes."""

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from pgw.core.errors import Code
from pgw.core.payment.payment import Method
from pgw.server.http.codec import json_answer
from pgw.server.http.guards import reader
from pgw.server.http.operation import Operation, Who
from pgw.server.http.problems import STATUS, Problem
from pgw.server.routes.operations import EXAMPLE_PAYMENT, OPERATIONS

blueprint = Blueprint("openapi")

Document = dict[str, Any]

API_VERSION = "1"

_PLAIN_TEXT = {"type": "string"}
_ASKED: dict[str, Document] = {
    "Idempotency-Key": {
        "required": True,
        "description": "New for each new payment; the same again is the same payment. It belongs to its merchant.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    },
    "If-Match": {
        "description": "Change only the `version` that was read; without it, or as `*`, change whatever is there.",
        "schema": {"type": "string", "pattern": r'^(\*|"?[0-9]{1,18}"?)$'},
    },
    "X-Actor": {
        "description": "Who asks, as the audit shall name them: printable ASCII, kept as claimed.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[ -~]+$"},
    },
    "X-Razorpay-Signature": {
        "required": True,
        "description": "HMAC-SHA256 of the body's bytes, in hex, under a secret of RAZORPAY_WEBHOOK_SECRET.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    },
    "X-Request-Id": {
        "description": "Name of this request, echoed and logged; without one the server makes a UUIDv7.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
    },
}
_SENT: dict[str, Document] = {
    "X-Request-Id": {"required": True, "description": "Name of the request in the log.", "schema": _PLAIN_TEXT},
    "Retry-After": {"description": "Seconds to wait, where waiting helps.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "What a merchant has to show: a bearer token.", "schema": _PLAIN_TEXT},
    "Location": {"required": True, "description": "Path of the payment.", "schema": _PLAIN_TEXT},
    "ETag": {"required": True, "description": "The version, as `If-Match` takes it.", "schema": _PLAIN_TEXT},
    "Idempotent-Replayed": {"description": "`true` when the payment was there before.", "schema": {"const": "true"}},
}
_IN_PATH: dict[str, Document] = {
    "payment_id": {"type": "string", "format": "uuid"},
    "gateway_id": _PLAIN_TEXT,
    "merchant_id": {"type": "string", "minLength": 1, "maxLength": 64},
    "payment_method": {"description": "In capitals or not.", "type": "string", "examples": list(Method)},
}
_SECURITY_SCHEMES: Document = {
    "adminKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Internal-Api-Key",
        "description": "INTERNAL_API_KEY of the server, or any of its members.",
    },
    "merchantKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "A merchant's own key, made by `pgw key create`: it sees and pays for that merchant alone.",
    },
}
_SECURITY: dict[Who, list[Document]] = {
    Who.ANYBODY: [{}],
    Who.MERCHANT: [{}, {"merchantKey": []}, {"adminKey": []}],
    Who.READER: [{}, {"adminKey": []}],
    Who.ADMIN: [{"adminKey": []}],
}
_MEANING = {
    200: "As asked",
    201: "Final: `SUCCESS` or `FAILURE`",
    202: "Not final yet; ask again at `Location`",
    503: "No payment can be taken; `checks` says why",
}
_FORMS = {"payment_id": "uuid", "since": "date-time", "until": "date-time", "cursor": "uuid"}
_DESCRIPTION = (
    "Takes payments, routes each to a gateway, explains why, and finds out what happened when a gateway did not say. "
    "Amounts are integers in minor units, timestamps RFC 3339 in UTC, ids UUIDv7. Refusals are problem documents "
    "(RFC 9457); a full card number or a security code anywhere in a request is refused as CARD_DATA_NOT_ACCEPTED. "
    "Outside a loopback bind in development every route but /ops needs a key; a merchant's sees that merchant alone."
)


@blueprint.get("/openapi.json")
async def show(request: Request) -> HTTPResponse:
    """Describe the API."""
    reader(request)
    return json_answer(document())


@cache
def document() -> Document:
    """Build the document."""
    asked = [shape for each in OPERATIONS for shape in (each.body, each.query) if shape is not None]
    answered = [shape for each in OPERATIONS for shape in each.shapes]
    schemas = _schemas([*asked, *answered, Problem])
    for name in schemas.keys() - _schemas(asked).keys():
        # An answer is written with all its members, those with a default too.
        _require_all(schemas[name])
    for query in {each.query.__name__ for each in OPERATIONS if each.query is not None}:
        del schemas[query]
    for schema in schemas.values():
        for name, member in schema.get("properties", {}).items():
            _formatted(name, member)
    paths: defaultdict[str, Document] = defaultdict(dict)
    for each in OPERATIONS:
        paths[each.path][each.method] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "pgw", "version": API_VERSION, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": {name: {"name": name, "in": "header", **_ASKED[name]} for name in _ASKED},
            "headers": _SENT,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _schemas(shapes: Iterable[Any]) -> dict[str, Document]:
    _, components = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    return components


def _shape(kind: Any) -> Document:
    (schema,), _ = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    return schema


def _require_all(schema: Document) -> None:
    """Require what is always written: all but the members that are unset by default, which have no value to show."""
    if "properties" in schema:
        required = schema["required"]
        schema["required"] = [
            name for name, member in schema["properties"].items() if name in required or "default" in member
        ]


def _formatted(name: str, member: Document) -> Document:
    """Say what a text is, which its type in the code does not: our timestamps end with `_at`."""
    form = "date-time" if name.endswith("_at") else _FORMS.get(name)
    for kind in member.get("anyOf", [member]):
        # A text with a pattern of its own says what it is.
        if form is not None and kind.get("type") == "string" and "pattern" not in kind:
            kind["format"] = form
    return member


def _operation(each: Operation) -> Document:
    described: Document = {
        "operationId": f"{each.method}_{re.sub(r'[^a-z]+', '_', each.path).strip('_')}",
        "tags": [each.tag],
        "summary": each.summary,
        "security": _SECURITY[each.who],
        "parameters": _parameters(each),
        "responses": {**_answers(each), **_refusals(each)},
    }
    if each.body is not None:
        content: Document = {"schema": _shape(each.body)}
        if each.path == "/payments":
            content["example"] = EXAMPLE_PAYMENT
        described["requestBody"] = {"required": not each.may_be_bare, "content": {"application/json": content}}
    if each.body_is_signed:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    return described


def _parameters(each: Operation) -> list[Document]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": _IN_PATH[name]}
        for name in re.findall(r"\{(\w+)\}", each.path)
    ]
    if each.query is not None:
        schema = _schemas([each.query])[each.query.__name__]
        required = schema.get("required", [])
        found += [
            {"name": name, "in": "query", "required": name in required, "schema": _in_query(_formatted(name, member))}
            for name, member in schema["properties"].items()
        ]
    found += [{"$ref": f"#/components/parameters/{name}"} for name in (*each.headers, "X-Request-Id")]
    return found


def _in_query(member: Document) -> Document:
    """Drop `null`, which a query cannot say: such a member is left out."""
    kinds = [kind for kind in member.get("anyOf", ()) if kind != {"type": "null"}]
    if not kinds:
        return member
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def _answers(each: Operation) -> Document:
    return {
        str(status): {
            "description": _MEANING[status],
            "headers": _sent(*each.sends.get(status, ())),
            "content": {each.answers_as: {"schema": _answer(answer)}},
        }
        for status, answer in each.answers.items()
    }


def _answer(answer: Any) -> Document:
    return {"anyOf": [_shape(each) for each in answer]} if isinstance(answer, tuple) else _shape(answer)


def _refusals(each: Operation) -> Document:
    """Group an operation's refusals by status, with those that every request may meet."""
    codes = [*each.refusals, Code.CARD_DATA_NOT_ACCEPTED, Code.INVALID_REQUEST, Code.BODY_TOO_LARGE]
    if each.who is not Who.ANYBODY:
        codes += [Code.UNAUTHORIZED, Code.FORBIDDEN]
    if each.body is not None:
        codes.append(Code.UNSUPPORTED_MEDIA_TYPE)
    by_status: defaultdict[int, list[Code]] = defaultdict(list)
    for code in dict.fromkeys(codes):
        by_status[STATUS[code]].append(code)
    challenged = ("WWW-Authenticate",) if each.who is Who.MERCHANT else ()
    found = {
        str(status): _problem(f"`{'`, `'.join(listed)}`", *(challenged if Code.UNAUTHORIZED in listed else ()))
        for status, listed in sorted(by_status.items())
    }
    return {**found, "default": _problem("Any other fault: of HTTP, or of pgw (`INTERNAL`)")}


def _sent(*names: str) -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-Id")}


def _problem(description: str, *sent: str) -> Document:
    return {
        "description": description,
        "headers": _sent("Retry-After", *sent),
        "content": {"application/problem+json": {"schema": _shape(Problem)}},
    }
