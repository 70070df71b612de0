"""/openapi.json describes the API there is: all of it, and nothing else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pgw.core.errors import Code
from pgw.server.app import create_app
from pgw.server.http.operation import Operation, Who
from pgw.server.http.problems import STATUS, Problem
from pgw.server.routes.operations import EXAMPLE_PAYMENT, OPERATIONS
from pgw.settings import load
from tests.server.documented import SPEC, misfits, resolved
from tests.server.serving import Served

Document = dict[str, Any]

AT_START = {Code.REFUSED_TO_START, Code.OLD_SCHEMA, Code.STORE_ABSENT, Code.STORE_IN_USE, Code.ADDRESS_IN_USE}
"""Refusals no request can meet."""


def _nodes(node: Any) -> Iterator[Document]:
    if isinstance(node, dict):
        yield node
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _nodes(each)


def _structs(kind: Any) -> Iterator[msgspec.inspect.StructType]:
    """Yield every Struct a shape is made of."""
    found: dict[Any, msgspec.inspect.StructType] = {}

    def look(node: Any) -> None:
        if isinstance(node, msgspec.inspect.StructType):
            if node.cls in found:
                return
            found[node.cls] = node
        children = (
            node
            if isinstance(node, tuple)
            else (getattr(node, name) for name in getattr(node, "__struct_fields__", ()))
        )
        for child in children:
            if isinstance(child, tuple | msgspec.inspect.Type | msgspec.inspect.Field):
                look(child)

    look(msgspec.inspect.type_info(kind))
    yield from found.values()


def _shapes() -> list[Any]:
    return [Problem, *(shape for each in OPERATIONS for shape in (each.body, *each.shapes) if shape)]


def test_the_server_serves_the_document_as_json(server: Served) -> None:
    assert server.api.get("/openapi.json").document == json.loads(json.dumps(SPEC))


def test_every_route_is_described_and_every_described_route_is_there(tmp_path: Path) -> None:
    app = create_app(load({"PGW_HOME": str(tmp_path)}), live=False)
    routes = {
        (method.lower(), "/" + re.sub(r"<(\w+):\w+>", r"{\1}", route.path))
        for route in app.router.routes
        for method in route.methods
    }
    assert routes == {(each.method, each.path) for each in OPERATIONS}
    assert routes == {(method, path) for path, methods in SPEC["paths"].items() for method in methods}


def test_every_reference_leads_somewhere() -> None:
    references = [node for node in _nodes(SPEC) if "$ref" in node]
    assert len(references) > 100
    assert all(isinstance(resolved(node), dict) for node in references)
    mapped = [to for node in _nodes(SPEC) for to in node.get("discriminator", {}).get("mapping", {}).values()]
    assert {resolved({"$ref": to})["title"] for to in mapped} == {"Upi", "Card", "Netbanking"}


def test_it_has_what_openapi_3_1_requires() -> None:
    assert SPEC["openapi"] == "3.1.0"
    assert {"title", "version"} <= SPEC["info"].keys()
    described = [operation for methods in SPEC["paths"].values() for operation in methods.values()]
    assert len({each["operationId"] for each in described}) == len(described)
    for each in described:
        assert all("description" in response for response in each["responses"].values())
        parameters = [resolved(parameter) for parameter in each["parameters"]]
        assert all({"name", "in", "schema"} <= parameter.keys() for parameter in parameters)
        assert len({(parameter["in"], parameter["name"]) for parameter in parameters}) == len(parameters)
        schemes = {name for option in each["security"] for name in option}
        assert schemes <= SPEC["components"]["securitySchemes"].keys()


@pytest.mark.parametrize("each", OPERATIONS, ids=lambda each: f"{each.method} {each.path}")
def test_each_member_of_a_path_is_a_parameter(each: Operation) -> None:
    parameters = [resolved(parameter) for parameter in SPEC["paths"][each.path][each.method]["parameters"]]
    named = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
    assert named == set(re.findall(r"\{(\w+)\}", each.path))
    assert all(parameter["required"] for parameter in parameters if parameter["in"] == "path")


@pytest.mark.parametrize("each", OPERATIONS, ids=lambda each: f"{each.method} {each.path}")
def test_each_member_of_a_query_is_a_parameter(each: Operation) -> None:
    parameters = SPEC["paths"][each.path][each.method]["parameters"]
    asked = {parameter["name"]: parameter for parameter in parameters if parameter.get("in") == "query"}
    fields = msgspec.structs.fields(each.query) if each.query else ()
    assert {name: parameter["required"] for name, parameter in asked.items()} == {
        field.encode_name: field.required for field in fields
    }


@pytest.mark.parametrize("shape", _shapes(), ids=lambda shape: getattr(shape, "__name__", str(shape)))
def test_every_field_of_every_shape_is_described_and_required_where_it_always_stands(shape: Any) -> None:
    for struct in _structs(shape):
        schema = SPEC["components"]["schemas"][struct.cls.__name__]
        tag = {struct.tag_field} if struct.tag_field else set()
        assert set(schema["properties"]) == {field.encode_name for field in struct.fields} | tag
        always = {field.encode_name for field in struct.fields if field.required}
        assert always | tag <= set(schema["required"])
        assert schema["description"]


def test_every_refusal_a_request_can_meet_is_described() -> None:
    told = {
        Code(code)
        for methods in SPEC["paths"].values()
        for operation in methods.values()
        for status, response in operation["responses"].items()
        for code in re.findall(r"`([A-Z_]+)`", response["description"])
        if status == "default" or (code in STATUS and STATUS[Code(code)] == int(status))
    }
    assert set(Code) - AT_START - told == {Code.METHOD_NOT_ALLOWED}


def test_whoever_needs_the_admin_key_is_told_so() -> None:
    for each in OPERATIONS:
        security = SPEC["paths"][each.path][each.method]["security"]
        assert ({} not in security) == (each.who is Who.ADMIN)


def test_the_example_is_a_payment_that_fits_its_own_schema() -> None:
    content = SPEC["paths"]["/payments"]["post"]["requestBody"]["content"]["application/json"]
    assert content["example"] == EXAMPLE_PAYMENT
    assert misfits(content["schema"], content["example"]) == []


def test_moments_are_described_as_such() -> None:
    created = SPEC["components"]["schemas"]["Payment"]["properties"]["created_at"]
    assert created == {"type": "string", "format": "date-time"}
