"""A server in a thread that answers what a test told it to, and remembers what it was asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request, as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Stub:
    """`answers` maps `GET /path` to a status and a document; a document of bytes goes out as it is, as text.

    A request may be named with its query, which then comes before the same without one. `later` holds what follows.
    """

    address: str
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    later: dict[str, list[Any]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    hangs_up: bool = False
    answers_now: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.answers_now.set()

    def answer(self, request: str, document: object, *later: object, status: int = 200) -> None:
        """Answer a request so from now on; with `later` documents each time with the next, the last for ever."""
        self.answers[request] = (status, document)
        self.later[request] = list(later)

    def given(self, request: str, missing: tuple[int, Any]) -> tuple[int, Any]:
        """Return the answer to a request, and turn to the one after it."""
        found = self.answers.get(request, missing)
        if self.later.get(request):
            self.answers[request] = (found[0], self.later[request].pop(0))
        return found

    @property
    def lines(self) -> list[str]:
        """Return what was asked so far, without queries."""
        return [f"{each.method} {each.path}" for each in self.asked]


class _Handler(BaseHTTPRequestHandler):
    stub: ClassVar[Stub]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _answer(self) -> None:
        self.stub.answers_now.wait(10)
        if self.stub.hangs_up:
            self.close_connection = True
            return
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.stub.asked.append(Asked(self.command, parts.path, query, dict(self.headers), body))
        missing = (404, {"status": 404, "code": "NOT_FOUND", "detail": f"there is no {parts.path}"})
        exact = f"{self.command} {self.path}"
        request = exact if exact in self.stub.answers else f"{self.command} {parts.path}"
        status, document = self.stub.given(request, missing)
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(document, bytes) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in self.stub.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = _answer  # noqa: N815  # the names http.server calls

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def running_stub() -> Iterator[Stub]:
    """Run a stub on a port of its own."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    stub = Stub(f"http://127.0.0.1:{server.server_address[1]}")
    handler.stub = stub  # type: ignore[attr-defined]  # made above
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        stub.answers_now.set()
        server.shutdown()
        server.server_close()
        thread.join()
