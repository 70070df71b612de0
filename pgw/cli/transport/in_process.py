"""Request -> answer without a server: the same app, opened on the configured stores for the length of one command."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pgw.cli.exits import CommandError, Exit
from pgw.cli.transport.base import RawAnswer
from pgw.cli.transport.stores import current_store
from pgw.settings import Settings

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

STEP_TIMEOUT_S = 15.0
"""Bound of opening, of one request and of closing; each is bounded inside as well, this is the net below."""


class InProcessTransport:
    """The app under its own lifespan. It answers routes; no worker, relay or migration runs in it."""

    name = "the app in this process"

    def __init__(self, settings: Settings) -> None:
        current_store(settings)
        if settings.log_level != "debug":
            # What the app would log is a server's log; of a command people want its one line.
            logging.disable(logging.CRITICAL)
        self._runner = asyncio.Runner()
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        try:
            self._client = self._within(self._start(settings))
        except BaseException:
            self._runner.close()
            raise

    async def _start(self, settings: Settings) -> "httpx.AsyncClient":
        import httpx  # noqa: PLC0415  # nothing is loaded for a ledger that is not there

        from pgw.server.app import create_app  # noqa: PLC0415

        app = create_app(settings, live=False)
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._lifespan = asyncio.ensure_future(app(scope, self._inbox.get, self._outbox.put))
        await self._lifespan_step("startup")
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://pgw")

    async def _lifespan_step(self, word: str) -> None:
        """Say one word of the lifespan and wait for its echo; a refusal to start arrives as its own sentence."""
        await self._inbox.put({"type": f"lifespan.{word}"})
        answer = await self._outbox.get()
        if answer["type"] != f"lifespan.{word}.complete":
            raise CommandError(Exit.ABSENT, answer.get("message") or f"the app did not complete its {word}")

    def _within(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._runner.run(asyncio.wait_for(work, STEP_TIMEOUT_S))
        except TimeoutError as error:
            message = f"{self.name} did not answer within {STEP_TIMEOUT_S:.0f} s: is the ledger reachable?"
            raise CommandError(Exit.PARTIAL, message) from error

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> RawAnswer:
        """Hand one request to the app."""
        response = self._within(self._client.request(method, target, headers=dict(headers), content=body))
        return RawAnswer(response.status_code, dict(response.headers), response.content)

    def close(self) -> None:
        """Close the stores in the app's own order."""
        try:
            self._within(self._stop())
        finally:
            self._runner.close()
            logging.disable(logging.NOTSET)

    async def _stop(self) -> None:
        await self._client.aclose()
        await self._lifespan_step("shutdown")
        await self._lifespan
