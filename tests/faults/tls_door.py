"""A certificate -> a listener that speaks TLS with it, and keeps every byte that came: as sent, and decrypted."""

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

LIMIT_S = 10.0
SILENT_S = 5.0
"""How long a connection may say nothing: what comes to this door says all it has to say at once."""


class TlsDoor:
    """It answers the handshake and nothing else. Use as a context."""

    def __init__(self, certificate: Path) -> None:
        self.raw: list[bytes] = []
        """What each connection has sent, as it went over the wire."""
        self.decrypted = b""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        # Closing a listener wakes nobody who waits in accept(); a shutdown does.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(SILENT_S)
                self.raw.append(b"")
                # A client that goes away, or wants no such certificate, is what is looked for here.
                with connection, suppress(OSError):
                    self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)
        while data := connection.recv(65_536):
            self.raw[-1] += data
            incoming.write(data)
            with suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                self.decrypted += tls.read()
            connection.sendall(outgoing.read())
