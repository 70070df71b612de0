"""`pgw doctor` -> what would keep pgw from serving well here, each with the command or setting that mends it."""

from collections.abc import Iterator
from typing import Any

from pgw.cli.exits import CommandError, Exit, RefusedError
from pgw.cli.findings import FINE, NOTE, PROBLEM, finding, of_operator_commands, of_outbox, of_redis
from pgw.cli.lazy import examples, group
from pgw.cli.transport.client import connect
from pgw.cli.transport.local import running_server
from pgw.cli.transport.stores import behind, existing_store
from pgw.cli.views.screen import Row, Screen, plain
from pgw.core.errors import PgwError
from pgw.settings import Settings, load, refusals

app = group("Find what is wrong with this installation, and how to mend it.")

COLUMNS = (plain("check"), plain("status"), plain("detail", folds=True))

WAY_TO_RAZORPAY = (
    "set RAZORPAY_KEY_ID and RAZORPAY_KEY_SECRET to enable it; without keys, run 'pgw sandbox' and paste the line it "
    "prints"
)


@app.command(epilog=examples("pgw doctor", "PGW_ENV=production pgw doctor -o json"))
def doctor() -> Screen:
    """Find what is wrong with this installation, and how to mend it.

    Looks at the settings, the ledger and its outbox, Redis, a running server, the gateways and what operators ordered;
    changes nothing.
    Exit 10: there is a problem. A note is no problem.
    """
    rows = list(_findings())
    problems = sum(row["status"] == PROBLEM for row in rows)
    text = f"{problems} problem{'' if problems == 1 else 's'}" if problems else "no problems"
    return Screen(
        document={"items": rows, "problems": problems},
        columns=COLUMNS,
        rows=rows,
        names=[row["check"] for row in rows if row["status"] == PROBLEM],
        below=(text,),
        exit_code=Exit.GATE if problems else Exit.DONE,
    )


def _findings() -> Iterator[Row]:
    try:
        settings = load()
    except PgwError as fault:
        yield from (finding("settings", PROBLEM, each) for each in fault.detail.split("; "))
        return
    wrong = refusals(settings)
    yield from (finding("settings", PROBLEM, each) for each in wrong)
    if not wrong:
        kind = "production" if settings.production else "development"
        yield finding("settings", FINE, f"{kind}, listens on {settings.bind_host}:{settings.bind_port}")
    ledger = _ledger(settings)
    yield ledger
    yield from of_redis(settings)
    if ledger["status"] == FINE:
        yield from of_outbox(settings, is_served=running_server(settings) is not None)
        yield from _behind_the_api(settings)


def _ledger(settings: Settings) -> Row:
    try:
        status = existing_store(settings)
    except CommandError as absent:
        # What an embedded ledger lacks, the first start makes; a database that is named has to be there.
        return finding("ledger", NOTE if settings.on_sqlite else PROBLEM, str(absent))
    except PgwError as fault:
        return finding("ledger", PROBLEM, fault.detail)
    if not status.is_current:
        return finding("ledger", PROBLEM, behind(status))
    return finding("ledger", FINE, f"{status.database}, schema {status.current}")


def _behind_the_api(settings: Settings) -> Iterator[Row]:
    try:
        with connect() as api:
            gateways = api.get("/gateways")["items"]
            checks = api.readiness()["checks"]
            breakers = api.get("/circuit-breaker/status")["items"]
    except (CommandError, RefusedError, PgwError) as fault:
        yield finding("server", PROBLEM, str(fault))
        return
    for check in checks:
        yield _check(check)
    yield from of_operator_commands(breakers)
    for gateway in gateways:
        yield _gateway(gateway, settings)
    if not any(each["is_enabled"] and not each["disabled_reason"] for each in gateways):
        yield finding("gateways", PROBLEM, "none takes payments: 'pgw gateway enable NAME', or give razorpay its keys")


def _check(check: Row) -> Row:
    if check["name"] == "pause":
        return finding("pause", NOTE, f"{check['detail']}: 'pgw resume' ends it")
    return finding(check["name"], FINE if check["status"] == "ok" else PROBLEM, check["detail"])


def _gateway(gateway: dict[str, Any], settings: Settings) -> Row:
    name = f"gateway:{gateway['gateway_id']}"
    if gateway["is_sandbox"] and gateway["is_enabled"] and settings.production:
        return finding(name, PROBLEM, f"a sandbox in production: run 'pgw gateway disable {gateway['gateway_id']}'")
    if not gateway["disabled_reason"]:
        return finding(name, FINE, "takes payments")
    way = (
        WAY_TO_RAZORPAY if "RAZORPAY" in gateway["disabled_reason"] else f"'pgw gateway enable {gateway['gateway_id']}'"
    )
    return finding(name, NOTE, f"disabled ({gateway['disabled_reason']}): {way}")
