"""The ways to TradingView that one contract is told to, each with the levers of whoever stands behind it."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import SecretStr

from sts_app.core.store import MemoryStore
from sts_app.provisioning import simulated
from sts_app.provisioning.gateway import CallMade, Meter, TradingView, unmetered
from sts_app.provisioning.live_direct import DirectTradingView
from sts_app.provisioning.live_service import AccessService
from sts_app.provisioning.simulated import Fault, SimulatedTradingView
from tests.fakes.access_service import AccessServiceFake, Dialect
from tests.fakes.tradingview_site import TradingViewSite
from tests.fakes.vendor import SESSION_ID, SIGNATURE, WRITES, Nasty, TradingViewFake

ALPHA, RIDER = "PUB;test_alpha", "PUB;test_rider"
BOTH = (ALPHA, RIDER)
SECRETS = (SESSION_ID, SIGNATURE)

SIMULATED, OPEN, SECURED, DIRECT = "simulated", "open service", "secured service", "direct"
LIVE = (OPEN, SECURED, DIRECT)
WAYS = (SIMULATED, *LIVE)
LISTING = (SIMULATED, DIRECT)

ABOUT_A_NAME = ("find_name", "grant", "revoke", "has_access")
EVERY_OP = (*ABOUT_A_NAME, "check_session")
WRITING = ("grant", "revoke")


@dataclass
class World:
    """One way to TradingView. Each lever moves whoever stands behind it; `metered` is what the meter was told.

    `impatient` is the same way for who does not wait long.
    """

    way: str
    gateway: TradingView
    impatient: TradingView
    metered: list[CallMade]
    calls: Callable[[], int]
    holds: Callable[[str, str], bool]
    give: Callable[[str, str, datetime | None], None]
    break_session: Callable[[], None]
    limit_rate: Callable[[int], None]
    lose_answer: Callable[[], None]
    never_answer: Callable[[], None]
    lie: Callable[[], None]
    refuse: Callable[[], None]
    fail: Callable[[], None]
    fail_reads: Callable[[], None]
    says_why_in_every_call: bool = True


@dataclass
class Live:
    """A live adapter's way: its fake, and how to make an adapter to it."""

    way: str
    fake: TradingViewFake
    metered: list[CallMade] = field(default_factory=list)

    def gateway(
        self,
        *,
        seconds: float = 10,
        base_url: str | None = None,
        session_id: str | None = SESSION_ID,
        signature: str | None = SIGNATURE,
        canary: str | None = "Vendor",
    ) -> AccessService | DirectTradingView:
        base_url = self.fake.url if base_url is None else base_url
        make = service if isinstance(self.fake, AccessServiceFake) else direct
        more = {"canary": canary} if make is service else {}
        return make(
            base_url, seconds=seconds, session_id=session_id, signature=signature, meter=self.metered.append, **more
        )


def service(
    base_url: str,
    *,
    seconds: float = 10,
    session_id: str | None = SESSION_ID,
    signature: str | None = SIGNATURE,
    canary: str | None = "Vendor",
    meter: Meter = unmetered,
) -> AccessService:
    return AccessService(
        base_url,
        session_id=_secret(session_id),
        signature=_secret(signature),
        canary=canary,
        canary_scripts=[ALPHA],
        validate_timeout=seconds,
        call_timeout=seconds,
        meter=meter,
    )


def direct(
    base_url: str,
    *,
    seconds: float = 10,
    session_id: str | None = SESSION_ID,
    signature: str | None = SIGNATURE,
    meter: Meter = unmetered,
) -> DirectTradingView:
    return DirectTradingView(
        base_url,
        session_id=_secret(session_id),
        signature=_secret(signature),
        validate_timeout=seconds,
        call_timeout=seconds,
        meter=meter,
    )


def _secret(value: str | None) -> SecretStr | None:
    return SecretStr(value) if value is not None else None


@contextlib.contextmanager
def live_way(way: str) -> Iterator[Live]:
    """The fake of a live way, running."""
    fakes = {
        OPEN: lambda: AccessServiceFake(Dialect.OPEN),
        SECURED: lambda: AccessServiceFake(Dialect.SECURED),
        DIRECT: TradingViewSite,
    }
    with fakes[way]() as fake:
        yield Live(way, fake)


@contextlib.contextmanager
def world_of(way: str) -> Iterator[World]:
    if way == SIMULATED:
        yield simulated_world()
        return
    with live_way(way) as live:
        yield live_world(live)


def simulated_world() -> World:
    store = MemoryStore()
    metered: list[CallMade] = []

    def holds(name: str, script: str) -> bool:
        return any((held.username.lower(), held.script_id) == (name.lower(), script) for held in held_by())

    def held_by() -> list[simulated.Holding]:
        return simulated.holdings(store)

    gateway = SimulatedTradingView(store, sleep=lambda seconds: None, meter=metered.append)
    return World(
        SIMULATED,
        gateway,
        gateway,
        metered,
        calls=lambda: sum(simulated.calls(store).values()),
        holds=holds,
        give=lambda name, script, until: simulated.give(store, name, script, expires_at=until),
        break_session=lambda: simulated.misbehave(store, Fault.DEAD_SESSION),
        limit_rate=lambda seconds: simulated.misbehave(store, Fault.RATE_LIMIT, seconds=seconds),
        lose_answer=lambda: simulated.misbehave(store, Fault.LOSE_ANSWER),
        never_answer=lambda: simulated.misbehave(store, Fault.TIMEOUT),
        lie=lambda: simulated.misbehave(store, Fault.LIE),
        refuse=lambda: simulated.misbehave(store, Fault.REFUSE),
        fail=lambda: simulated.misbehave(store, Fault.FAIL),
        fail_reads=lambda: simulated.misbehave(store, Fault.READS_FAIL),
    )


def live_world(live: Live) -> World:
    fake = live.fake
    # What is one call to a service is one for each script to the site.
    writes = 1 if isinstance(fake, AccessServiceFake) else len(BOTH)

    def break_session() -> None:
        fake.session_is_alive = False

    def limit_rate(seconds: int) -> None:
        fake.retry_after = str(seconds)
        fake.be(Nasty.TOO_MANY)

    return World(
        live.way,
        live.gateway(),
        live.gateway(seconds=0.3),
        live.metered,
        calls=lambda: len(fake.seen),
        holds=fake.holds,
        give=lambda name, script, until: fake.give(name, script, until=until),
        break_session=break_session,
        limit_rate=limit_rate,
        lose_answer=lambda: fake.be(Nasty.DROP_AFTER),
        never_answer=lambda: fake.be(Nasty.SLOW),
        lie=lambda: fake.be(Nasty.NOTHING_DONE, times=writes, on=WRITES),
        refuse=lambda: fake.be(Nasty.FAILURE, times=writes, on=WRITES),
        fail=lambda: fake.be(Nasty.BAD_GATEWAY),
        fail_reads=lambda: fake.be(Nasty.BAD_GATEWAY),
        # The open dialect says no more of an expired session than of any other fault inside.
        says_why_in_every_call=live.way != OPEN,
    )


def perform(gateway: TradingView, op: str) -> object:
    """One act about one script, so that it is one call on every way."""
    asked = {"find_name": ("Trader",), "check_session": (), "list_holders": (ALPHA,)}.get(op, ("Trader", [ALPHA]))
    return getattr(gateway, op)(*asked)


def facts_of(gateway: TradingView, name: str) -> dict[str, bool]:
    return {fact.script_id: fact.has_access for fact in gateway.has_access(name, BOTH)}


def everything_told_by(error: BaseException) -> str:
    """All that a log, a page or an error tracker could show of an error, hidden context included."""
    told, seen = "", [error]
    while seen:
        one = seen.pop()
        told += f"{one!s} {one!r} {one.args!r} {vars(one)!r}\n"
        seen += [other for other in (one.__cause__, one.__context__) if other is not None]
    return told + "".join(traceback.format_exception(error))
