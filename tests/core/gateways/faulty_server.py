"""What to do at each request -> a gateway on loopback that breaks the protocol on purpose, and counts what reached it.

Plain blocking sockets in threads: no HTTP library has a say in what is sent, and no event loop is shared with a client.
"""

import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

LIMIT_S = 10
"""How long a test waits for a thing that happens in milliseconds."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Peer:
    """One connection on which a request has arrived."""

    def __init__(self, connection: socket.socket, server: "FaultyServer") -> None:
        self._connection = connection
        self.server = server

    def say(self, *parts: bytes) -> None:
        for part in parts:
            self._connection.sendall(part)

    def reset(self) -> None:
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()

    def end(self) -> None:
        """Send a FIN."""
        self._connection.shutdown(socket.SHUT_RDWR)

    def wait(self) -> None:
        """Say nothing until the client goes away."""
        while self._connection.recv(65_536):
            pass


Act = Callable[[Peer], None]


class FaultyServer:
    """Does the first act at the first request, the second at the second, whatever connection; the last one again.

    A `greeting` is done to each new connection, before anything is read.
    """

    def __init__(self, *acts: Act, tls: ssl.SSLContext | None = None, greeting: Act | None = None) -> None:
        self._acts = acts
        self._greeting = greeting
        self._tls = tls
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self.port: int = self._listener.getsockname()[1]
        self.heads: Counter[str] = Counter()
        """Requests by method, each counted as soon as its head is complete."""
        self.requests: list[Request] = []
        self.connections = 0
        self.arrived = threading.Semaphore(0)
        """Released once for each complete request."""
        self.acted = threading.Semaphore(0)
        """Released once for each act that is over."""
        self.signal = threading.Event()
        """For an act that waits for its test."""

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.signal.set()
        # Closing a listener wakes no thread that waits in accept(); a shutdown does.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                with self._lock:
                    self.connections += 1
                    self._open.add(connection)
                    self._threads.append(thread)
                thread.start()

    def _serve(self, plain: socket.socket) -> None:
        connection = plain
        # Whatever the client does to the connection is its right; what it sent has been counted by then.
        with suppress(OSError):
            if self._greeting is not None:
                self._greeting(Peer(connection, self))
            if self._tls is not None:
                connection = self._tls.wrap_socket(plain, server_side=True)
                with self._lock:
                    self._open.add(connection)
            while request := self._read(connection):
                with self._lock:
                    number = len(self.requests)
                    self.requests.append(request)
                self.arrived.release()
                try:
                    self._acts[min(number, len(self._acts) - 1)](Peer(connection, self))
                finally:
                    self.acted.release()
        with self._lock:
            self._open -= {plain, connection}
            connection.close()

    def _read(self, connection: socket.socket) -> Request | None:
        received = b""
        while b"\r\n\r\n" not in received:
            if not (part := connection.recv(65_536)):
                return None
            received += part
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ")
        with self._lock:
            self.heads[method] += 1
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(body) < length:
            if not (part := connection.recv(65_536)):
                return None
            body += part
        return Request(method, target, headers, body)


def answer(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    """Put a proper answer into bytes."""
    lines = (f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


def reply(peer: Peer) -> None:
    peer.say(answer())


def saying(*parts: bytes, then: Act | None = None) -> Act:
    """Make the act that sends these bytes and then, if asked to, does something to the connection."""

    def act(peer: Peer) -> None:
        peer.say(*parts)
        if then is not None:
            then(peer)

    return act


@contextmanager
def full_listener() -> Iterator[int]:
    """Listen on a port whose queue is full, so that the kernel drops what asks for a connection."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(address)
        yield address[1]
