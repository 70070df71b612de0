"""A request, its answer -> whether /openapi.json describes them; every answer received by these tests is held to it."""

import re
from typing import Any

from pgw.server.routes.openapi import document

Document = dict[str, Any]

SPEC: Document = document()

_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def resolved(schema: Document) -> Document:
    """Follow a reference into the document."""
    while "$ref" in schema:
        found: Any = SPEC
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema


def operation(method: str, path: str) -> Document | None:
    """Find what the document says of a request."""
    for template, methods in SPEC["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            found: Document | None = methods.get(method.lower())
            return found
    return None


def misfits(schema: Document, value: Any, pointer: str = "") -> list[str]:
    """List where a value is not what a schema says; the part of JSON Schema that msgspec writes."""
    schema = resolved(schema)
    if "anyOf" in schema:
        return min((misfits(each, value, pointer) for each in schema["anyOf"]), key=len)
    if value not in schema.get("enum", [value]):
        return [f"{pointer}: {value!r} is not listed"]
    kinds = _KINDS[schema["type"]] if "type" in schema else (object,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and schema.get("type") in {"integer", "number"}):
        return [f"{pointer}: {type(value).__name__} is no {schema['type']}"]
    if isinstance(value, list):
        return [
            each for place, item in enumerate(value) for each in misfits(schema["items"], item, f"{pointer}/{place}")
        ]
    return _members(schema, value, pointer) if isinstance(value, dict) and "properties" in schema else []


def _members(schema: Document, value: Document, pointer: str) -> list[str]:
    properties = schema["properties"]
    found = [f"{pointer}/{name}: is missing" for name in schema["required"] if name not in value]
    for name, member in value.items():
        if name in properties:
            found += misfits(properties[name], member, f"{pointer}/{name}")
        else:
            found.append(f"{pointer}/{name}: is not described")
    return found


def undescribed(method: str, path: str, status: int, content_type: str, answer: Any) -> list[str]:
    """List what the document does not say of this answer; what it does not know at all must be refused as a problem."""
    described = operation(method, path)
    if described is None:
        if status not in {400, 404, 405, 413}:
            return [f"{method} {path} answers {status}, and is not described"]
        described = SPEC["paths"]["/payments"]["post"]
    response = described["responses"].get(str(status))
    if response is None and (status < 400 or operation(method, path) is not None):
        return [f"{method} {path}: {status} is not described"]
    content = (response or described["responses"]["default"])["content"]
    if content_type not in content:
        return [f"{method} {path} {status}: {content_type} is not described"]
    return misfits(content[content_type]["schema"], answer)
