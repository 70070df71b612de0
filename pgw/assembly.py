"""Settings -> Runtime: the only place that builds what the flow depends on."""

import os
import secrets
import socket
from collections.abc import Callable, Container
from dataclasses import dataclass
from random import Random

from pgw.core.flow.breakers.circuit import Breakers
from pgw.core.flow.metrics.windows import MetricWindows
from pgw.core.flow.money.invariant_check import InvariantCheck
from pgw.core.flow.runtime.clock import SystemClock
from pgw.core.flow.runtime.entropy import Entropy
from pgw.core.flow.runtime.merchant_keys import MerchantKeys
from pgw.core.flow.runtime.refresh import Refresher
from pgw.core.flow.runtime.snapshot import Snapshots
from pgw.core.flow.runtime.tasks import BackgroundTasks
from pgw.core.gateways.book import SandboxBook
from pgw.core.gateways.sandbox import BehaviourOf, SandboxGateway
from pgw.core.hot.in_process import InProcessHotState
from pgw.core.hot.on_redis import OnRedis, connect
from pgw.core.hot.stream import Stream
from pgw.core.ledger.breaker_history import last_shared
from pgw.core.ledger.configuration import RAZORPAY, SANDBOX_GATEWAYS
from pgw.core.ledger.engine.ledger import OpenLedger
from pgw.core.ledger.engine.store import identity
from pgw.core.payment.payment import Method
from pgw.core.ports import Clock, Dependencies, Gateway, Heartbeat
from pgw.core.routing.gateway import SandboxBehaviour
from pgw.core.routing.plan import Snapshot
from pgw.failpoints import GatewayWrapper, RunnerWrapper, StreamWrapper, arm
from pgw.settings import Settings

SANDBOX_BOOK = "sandbox.book"

RAZORPAY_CONNECTIONS = 256
"""Calls to Razorpay under way at once; each payment makes two, and one that finds no free connection was not sent."""


@dataclass(frozen=True, slots=True)
class Hot:
    """The hot state of a process. `stream` is there where several processes share it; else the ledger is the stream."""

    state: OnRedis | InProcessHotState
    stream: Stream | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime(Dependencies):
    """The flow's dependencies as one process opened them, and what server, workers and commands need beside."""

    ledger: OpenLedger
    circuit: Breakers
    settings: Settings
    process: str
    snapshots: Snapshots
    merchant_keys: MerchantKeys
    hot: Hot
    windows: MetricWindows
    refresher: Refresher
    invariant_check: InvariantCheck
    book: SandboxBook
    tasks: BackgroundTasks

    def fleet(self) -> tuple[Heartbeat, ...]:
        """Return every live process that takes payments, this one included."""
        return self.refresher.fleet

    async def close(self, within_s: float) -> None:
        """Let background tasks end, at most `within_s`, then close every connection and file."""
        await self.tasks.drain(within_s)
        for gateway in self.gateways.values():
            await gateway.close()
        await self.hot.state.close()
        await self.ledger.close()
        self.book.close()


def open_ledger(settings: Settings) -> OpenLedger:
    """Open the configured ledger."""
    if settings.failpoint is None:
        return OpenLedger(settings.database)
    armed = arm(settings.failpoint)
    return OpenLedger(settings.database, lambda runner: RunnerWrapper(runner, armed))


def open_hot(settings: Settings, clock: Clock) -> Hot:
    """Open the hot state: on Redis where there is one, else in this process."""
    if settings.redis_url is None:
        return Hot(InProcessHotState(clock), None)
    server = connect(settings.redis_url)
    names = settings.stream_key, settings.stream_group
    if settings.failpoint is None:
        return Hot(OnRedis(server), Stream(server, *names))
    return Hot(OnRedis(server), StreamWrapper(server, *names, arm(settings.failpoint)))


def process_name() -> str:
    """Return a name that no other process of any time has: it is written to the breakers' history."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def open_gateways(settings: Settings, book: SandboxBook, clock: Clock, behaviour_of: BehaviourOf) -> dict[str, Gateway]:
    """Open every gateway that has an adapter and, where it needs one, a key."""
    gateways: dict[str, Gateway] = {
        each.gateway_id: SandboxGateway(each.gateway_id, book, clock, behaviour_of, settings.sandbox_seed)
        for each in SANDBOX_GATEWAYS
    }
    if settings.razorpay_key_id and settings.razorpay_key_secret:
        # Imported here: a process without keys starts a fifth of a second sooner.
        from pgw.core.gateways.razorpay import Razorpay  # noqa: PLC0415
        from pgw.core.gateways.wire import Wire  # noqa: PLC0415

        auth = (settings.razorpay_key_id, settings.razorpay_key_secret)
        wire = Wire(settings.razorpay_base_url, auth, connections=RAZORPAY_CONNECTIONS)
        gateways[RAZORPAY.gateway_id] = Razorpay(wire)
    return gateways


Adapters = Callable[[Settings, SandboxBook, Clock, BehaviourOf], dict[str, Gateway]]
"""What opens the gateways: `open_gateways`, or a test's doubles."""


def _why_unavailable(gateway_id: str, gateways: Container[str], only: frozenset[str] | None) -> str | None:
    if gateway_id == RAZORPAY.gateway_id and gateway_id not in gateways:
        return "RAZORPAY_KEY_ID and RAZORPAY_KEY_SECRET are not both set"
    if gateway_id not in gateways:
        return "this version of pgw has no adapter for it"
    if only is not None and gateway_id not in only:
        return "this server was started with --gateways that leave it out"
    return None


def _breakers(process: str, clock: Clock, rng: Random, hot: Hot, snapshots: Snapshots) -> Breakers:
    circuit = Breakers(
        process,
        clock,
        rng,
        hot.state,
        lambda: snapshots.current.scoring.breaker,
        lambda: snapshots.update_views(circuit.views()),
        shared=hot.stream is not None,
    )
    return circuit


def _behaviours(current: Callable[[], Snapshot]) -> BehaviourOf:
    """Look sandbox behaviours up in the configuration of the time of each call."""

    def behaviour_of(gateway_id: str, method: Method) -> SandboxBehaviour | None:
        gateway = current().gateway(gateway_id)
        return None if gateway is None else gateway.sandbox.get(method)

    return behaviour_of


async def _read_first(ledger: OpenLedger, snapshots: Snapshots, keyring: MerchantKeys, circuit: Breakers) -> str:
    """Load configuration, keys and breakers from the ledger; return its id."""
    await snapshots.refresh()
    await keyring.refresh()
    circuit.restore(await ledger.read(last_shared))
    return await ledger.read(identity)


async def open_runtime(
    settings: Settings,
    role: str,
    only: frozenset[str] | None = None,
    *,
    adapters: Adapters = open_gateways,
    clock: Clock | None = None,
) -> Runtime:
    """Open the stores and build the runtime on them.

    `role`: what the heartbeat calls this process. `only`: the gateways that may take new payments in it.
    """
    clock = clock or SystemClock()
    rng, process, tasks = Entropy(), process_name(), BackgroundTasks()
    book = SandboxBook(settings.home / SANDBOX_BOOK)

    gateways = adapters(settings, book, clock, _behaviours(lambda: snapshots.current))
    if settings.failpoint is not None:
        armed = arm(settings.failpoint)
        gateways = {name: GatewayWrapper(each, armed) for name, each in gateways.items()}
    ledger, hot = open_ledger(settings), open_hot(settings, clock)
    snapshots = Snapshots(ledger, clock, lambda each: _why_unavailable(each.gateway_id, gateways, only))
    circuit = _breakers(process, clock, rng, hot, snapshots)
    keyring = MerchantKeys(ledger, clock)
    windows = MetricWindows(hot.state, clock)
    refresher = Refresher(process, role, hot.state, windows, circuit, snapshots, clock)
    try:
        ledger_id = await _read_first(ledger, snapshots, keyring, circuit)
        await refresher.catch_up()
    except BaseException:
        await hot.state.close()
        await ledger.close()
        raise
    return Runtime(
        ledger=ledger,
        gateways=gateways,
        clock=clock,
        rng=rng,
        snapshot=lambda: snapshots.current,
        timeout_ms=settings.gateway_timeout_ms,
        ledger_id=ledger_id,
        spawn=tasks.spawn,
        circuit=circuit,
        settings=settings,
        process=process,
        snapshots=snapshots,
        merchant_keys=keyring,
        hot=hot,
        windows=windows,
        refresher=refresher,
        invariant_check=InvariantCheck(ledger, clock, rng),
        book=book,
        tasks=tasks,
    )
