"""Request -> answer over a socket: the standard library's client, because a command is short and its start counts."""

import http.client
from collections.abc import Mapping
from urllib.parse import urlsplit

from pgw.cli.exits import CommandError, Exit
from pgw.cli.transport.base import RawAnswer

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 15.0
"""Above every bounded wait inside the server; who waits longer wants to know that something is wrong."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024


class NetworkTransport:
    """A connection to one server, opened at once and kept for the command's few calls. Redirects are never followed."""

    def __init__(self, address: str) -> None:
        self.name = address
        parts = urlsplit(address)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._prefix = parts.path.rstrip("/")
        self._connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_TIMEOUT_S)
        self._open()

    def _open(self) -> None:
        try:
            self._connection.connect()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            message = f"no server answers at {self.name} ({reason}): is it running, and is PGW_SERVER right?"
            raise CommandError(Exit.ABSENT, message) from error
        self._connection.sock.settimeout(ANSWER_TIMEOUT_S)

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> RawAnswer:
        """Send one request; an answer that never comes leaves open whether a change was made, and says so."""
        try:
            if self._connection.sock is None:  # the server closed after the last answer
                self._open()
            self._connection.request(method, self._prefix + target, body, dict(headers))
            response = self._connection.getresponse()
            content = response.read(MAX_ANSWER_BYTES)
        except TimeoutError as error:
            raise self._no_answer(method, target, f"did not answer within {ANSWER_TIMEOUT_S:.0f} s") from error
        except (http.client.HTTPException, OSError) as error:
            raise self._no_answer(method, target, "closed the connection without an answer") from error
        return RawAnswer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)

    def _no_answer(self, method: str, target: str, how: str) -> CommandError:
        self.close()
        path = target.partition("?")[0]
        open_end = "" if method == "GET" else "; look whether it was done before you repeat it"
        is_known = method == "GET" and how.startswith("closed")
        return CommandError(
            Exit.ABSENT if is_known else Exit.PARTIAL, f"{self.name} {how} to {method} {path}{open_end}"
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
