"""Method, path, document -> Answer: the one client, whether the server runs elsewhere, here, or in this process."""

import json
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

from pgw.cli.exits import CommandError, Exit, RefusedError
from pgw.cli.transport.base import RawAnswer, Transport
from pgw.settings import Settings, load

FIRST_REFUSED = 400
FIRST_REDIRECT = 300
NOT_READY = 503


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """What the server said; only an accepted request has one."""

    status: int
    document: Any
    headers: Mapping[str, str]


class ApiClient:
    """Speaks the HTTP contract. A refusal is a RefusedError, raised here and nowhere else."""

    def __init__(self, transport: Transport, key: str) -> None:
        self._transport = transport
        self._key = key

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        accepts: int | None = None,
    ) -> ApiAnswer:
        """Send a request; `query` members that are None are left out, `body` is a document.

        `accepts`: a status of refusal that is an answer here.
        """
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{path}?{urlencode(asked)}" if asked else path
        received = self._transport.send(
            method,
            target,
            {
                "Accept": "application/json",
                "X-Internal-Api-Key": self._key,
                "X-Actor": actor(),
                **({} if body is None else {"Content-Type": "application/json"}),
                **(headers or {}),
            },
            None if body is None else json.dumps(body).encode(),
        )
        document = _decoded(received)
        if received.status == accepts and document is not None:
            return ApiAnswer(received.status, document, received.headers)
        if received.status >= FIRST_REFUSED:
            raise _refusal(received.status, document)
        if received.status >= FIRST_REDIRECT or (document is None and received.body):
            raise CommandError(
                Exit.ABSENT,
                f"{self._transport.name} answers {method} {path} with status {received.status} and no document: "
                "that is not pgw (PGW_SERVER must name the server itself; redirects are not followed)",
            )
        return ApiAnswer(received.status, document, received.headers)

    def get(self, path: str, **query: object) -> Any:
        """Return the document at a path."""
        return self.call("GET", path, query=query).document

    def readiness(self) -> Any:
        """Return the readiness document, also of a server that is not ready and answers it with 503."""
        return self.call("GET", "/ops/readiness", accepts=NOT_READY).document


def member(value: str) -> str:
    """Write a name as one member of a path."""
    return quote(value, safe="")


def actor() -> str:
    """Return the OS user, as the audit shall name whoever asked; the user's number when it has no name."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return name.encode("ascii", "backslashreplace").decode()


def _decoded(received: RawAnswer) -> Any:
    if "json" not in received.headers.get("content-type", ""):
        return None
    try:
        return json.loads(received.body)
    except ValueError:
        return None


def _refusal(status: int, document: Any) -> RefusedError:
    problem = document if isinstance(document, dict) else {}
    code = problem.get("code")
    detail = str(problem.get("detail") or problem.get("title") or f"the server answers with status {status}")
    faults = [f"{each.get('pointer')} {each.get('detail')}" for each in problem.get("errors") or ()]
    unnamed = [fault for fault in faults if fault not in detail]
    refusal = RefusedError(status, code, f"{detail}: {'; '.join(unnamed)}" if unnamed else detail)
    if refusal.exit_code is Exit.AUTH:
        refusal.message += " (PGW_API_KEY, or INTERNAL_API_KEY, must be a key of that server)"
    if refusal.exit_code is Exit.UNEXPECTED and "request_id" in problem:
        refusal.message += f" (the server's log has it as request {problem['request_id']})"
    return refusal


def connect(settings: Settings | None = None) -> ApiClient:
    """Return a client to PGW_SERVER, else to the local server of this ledger, else to the same app in this process."""
    settings = settings or load()
    if settings.server is not None:
        from pgw.cli.transport.network import NetworkTransport  # noqa: PLC0415  # only the way that is taken is loaded

        return ApiClient(NetworkTransport(settings.server), settings.api_key)
    from pgw.cli.transport.local import running_server  # noqa: PLC0415

    local = running_server(settings)
    if local is not None:
        return ApiClient(local, settings.api_key)
    from pgw.cli.transport.in_process import InProcessTransport  # noqa: PLC0415

    # PGW_API_KEY belongs to a server; here the app takes the key it is configured with.
    return ApiClient(InProcessTransport(settings), settings.admin_keys[0])
