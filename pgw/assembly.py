"""Settings -> House: the only place that builds the world the flow runs in."""

from dataclasses import dataclass

from pgw.core.flow.clock import SystemClock
from pgw.core.flow.entropy import Entropy
from pgw.core.flow.owned import OwnedTasks
from pgw.core.flow.snapshot import Snapshots
from pgw.core.gateway import GatewayConfig, SandboxBehaviour
from pgw.core.gateways.book import Book
from pgw.core.gateways.sandbox import Sandbox
from pgw.core.ledger.configuration import RAZORPAY, SANDBOX_GATEWAYS
from pgw.core.ledger.ledger import OpenLedger
from pgw.core.ledger.store import identity
from pgw.core.payment import Method
from pgw.core.ports import Gateway, World
from pgw.settings import Settings

SANDBOX_BOOK = "sandbox.book"

RAZORPAY_CONNECTIONS = 256
"""Calls to Razorpay under way at once; each payment makes two, and one that finds no free connection was not sent."""


@dataclass(frozen=True, slots=True)
class House:
    """An opened world, with what the doors need beside it."""

    settings: Settings
    world: World
    snapshots: Snapshots
    ledger: OpenLedger
    book: Book
    tasks: OwnedTasks

    async def close(self, within_s: float) -> None:
        """Let owned tasks end, then give everything up."""
        await self.tasks.drain(within_s)
        for gateway in self.world.gateways.values():
            await gateway.close()
        await self.ledger.close()
        self.book.close()


async def open_house(settings: Settings, only: frozenset[str] | None = None) -> House:
    """Open the stores and build the world. `only`: the gateways that may take new payments in this process."""
    clock = SystemClock()
    book = Book(settings.home / SANDBOX_BOOK)
    tasks = OwnedTasks()

    def told(gateway_id: str, method: Method) -> SandboxBehaviour | None:
        gateway = snapshots.current.gateway(gateway_id)
        return None if gateway is None else gateway.sandbox.get(method)

    gateways: dict[str, Gateway] = {
        each.gateway_id: Sandbox(each.gateway_id, book, clock, told, settings.sandbox_seed) for each in SANDBOX_GATEWAYS
    }

    if settings.razorpay_key_id and settings.razorpay_key_secret:
        # Imported here: whoever has no keys starts a fifth of a second sooner.
        from pgw.core.gateways.razorpay import Razorpay  # noqa: PLC0415
        from pgw.core.gateways.wire import Wire  # noqa: PLC0415

        auth = (settings.razorpay_key_id, settings.razorpay_key_secret)
        gateways[RAZORPAY.gateway_id] = Razorpay(
            Wire(settings.razorpay_base_url, auth, connections=RAZORPAY_CONNECTIONS)
        )

    def unavailable(gateway: GatewayConfig) -> str | None:
        if gateway.gateway_id == RAZORPAY.gateway_id and gateway.gateway_id not in gateways:
            return "RAZORPAY_KEY_ID and RAZORPAY_KEY_SECRET are not both set"
        if gateway.gateway_id not in gateways:
            return "this version of pgw has no adapter for it"
        if only is not None and gateway.gateway_id not in only:
            return "this server was started with --gateways that leave it out"
        return None

    ledger = OpenLedger(settings.database)
    try:
        ledger_id = await ledger.read(identity)
        snapshots = Snapshots(ledger, clock, unavailable)
        await snapshots.refresh()
    except BaseException:
        await ledger.close()
        raise
    world = World(
        ledger=ledger,
        gateways=gateways,
        clock=clock,
        rng=Entropy(),
        snapshot=lambda: snapshots.current,
        timeout_ms=settings.gateway_timeout_ms,
        ledger_id=ledger_id,
        spawn=tasks.spawn,
    )
    return House(settings=settings, world=world, snapshots=snapshots, ledger=ledger, book=book, tasks=tasks)
