"""The routes -> their OpenAPI 3.1 document."""

from sanic import Blueprint, HTTPResponse, Request

from pgw.server.codec import json_answer
from pgw.server.guards import reader

blueprint = Blueprint("openapi")


@blueprint.get("/openapi.json")
async def show(request: Request) -> HTTPResponse:
    """Describe the API."""
    reader(request)
    return json_answer({"openapi": "3.1.0"})
