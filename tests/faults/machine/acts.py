"""What workers, TradingView, customers and staff do; for what happens to money see `money.py`."""

from __future__ import annotations

from datetime import timedelta

from tests.fakes.vendor import ALL, READS, WRITES, Nasty
from tests.faults.machine import house, vendor
from tests.faults.machine.history import PEOPLE, SLOTS, SPELLINGS, WORKERS, Bought, Machine
from tests.faults.machine.table import BOTH, act, desk, fault, on_commit

JOBS = ("provisioning", "provisioning", "billing", "emails", "sweep", "session", "reconcile")
SECONDS = (1, 5, 20, 31, 45, 121, 190, 601, 1900, 3700, 30000, 90000)
NASTY = {
    "phantom 200": Nasty.NOTHING_DONE,
    "failure": Nasty.FAILURE,
    "429": Nasty.TOO_MANY,
    "500": Nasty.UNKNOWN_EXCEPTION,
    "502": Nasty.BAD_GATEWAY,
    "401": Nasty.UNAUTHORISED,
    "sign-in page": Nasty.SIGN_IN,
    "captcha page": Nasty.CAPTCHA,
    "empty": Nasty.EMPTY,
    "half a JSON": Nasty.MALFORMED,
    "another name": Nasty.ANOTHER_NAME,
    "missing scripts": Nasty.MISSING_SCRIPTS,
    "dropped before": Nasty.DROP_BEFORE,
    "dropped after": Nasty.DROP_AFTER,
    "404 page": Nasty.NO_SUCH_PAGE,
    "503": Nasty.UNAVAILABLE,
    "sent away": Nasty.SENT_AWAY,
    "cut list": Nasty.CUT_LIST,
    "another list": Nasty.ANOTHER_LIST,
}
# One bad answer after the other, as a service gives them that is sick.
IN_TURN = {
    "phantom 200, then nothing": (Nasty.NOTHING_DONE, Nasty.EMPTY),
    "phantom 200, then silence": (Nasty.NOTHING_DONE, Nasty.MISSING_SCRIPTS),
    "failure, then 500": (Nasty.FAILURE, Nasty.UNKNOWN_EXCEPTION),
    "dropped, then 429": (Nasty.DROP_AFTER, Nasty.TOO_MANY),
}
ON = {"all": ALL, "reads": READS, "writes": WRITES}


# Those who work.


@act("work", 9, slot=WORKERS, job=JOBS, far=(False, True))
def start(m: Machine, slot: str, job: str, far: bool) -> bool:
    """Begin a job; `far` lets it run to its end at once."""
    if job == "reconcile" and not m.stage.reconciles:
        return False
    m.delivered = 0 if job == "billing" else m.delivered
    begun = m.start(slot, job, m.stage.job(job))
    return begun is not None and (not far or m.run(slot))


@act("work", 20, slot=SLOTS, points=(1, 1, 2, 3, 4, 6))
def step(m: Machine, slot: str, points: int) -> bool:
    did = False
    for _ in range(points):
        did = m.step(slot) or did
    return did


@act("work", 6, slot=SLOTS)
def finish(m: Machine, slot: str) -> bool:
    return m.run(slot)


@act("crash", 3, slot=SLOTS)
def kill(m: Machine, slot: str) -> bool:
    at = m.slots[slot].point if slot in m.slots else ""
    # Who has not begun yet has nothing to lose.
    return at != "start" and m.kill(slot) and fault(m, f"killed at {at}")


@act("database", 2, slot=SLOTS)
def drop(m: Machine, slot: str) -> bool:
    return m.drop(slot) and fault(m, "database connection dropped")


@act("lost", 4, slot=WORKERS, late=(False, True))
def lose(m: Machine, slot: str, late: bool) -> bool:
    at = m.slots[slot].point if slot in m.slots else ""
    return m.lose(slot, late=late) and fault(m, "request lost" if at == vendor.ARRIVED else "answer lost")


@act("lost", 3, number=(0, 1, 2))
def late(m: Machine, number: int) -> bool:
    """A request that nobody waits for is carried out after all."""
    if number >= len(m.gate.late):
        return False
    m.gate.carry_out(m.gate.late[number])
    return fault(m, "late deed")


# TradingView.


@act("nasty", 4, kind=(*NASTY, *IN_TURN), times=(1, 1, 2, 6), on=("all", *ON), wait=("0", "17", "900"))
def nasty(m: Machine, kind: str, times: int, on: str, wait: str) -> bool:
    m.stage.vendor.retry_after = wait
    if kind in IN_TURN:
        for each in IN_TURN[kind]:
            m.stage.vendor.be(each)
        return fault(m, kind)
    m.stage.vendor.be(NASTY[kind], times=times, on=ON[on])
    return fault(m, kind, times)


@act("session", 1.5)
def session_dies(m: Machine) -> bool:
    if not m.stage.vendor.session_is_alive:
        return False
    m.stage.vendor.session_is_alive = False
    return fault(m, "dead session")


@act("session", 2.5, slowly=(False, False, True))
def new_credentials(m: Machine, slowly: bool) -> bool:
    """A person saves credentials that TradingView accepts."""
    m.stage.vendor.session_is_alive = True
    return desk(m, "credentials", house.new_credentials, slowly=slowly)


@act("edits", 1.5, number=(0, 1, 2, 3, 4, 5), with_end=(False, True))
def edit(m: Machine, number: int, with_end: bool) -> bool:
    """Somebody takes access away at TradingView, or puts an end to it."""
    pairs = sorted(m.stage.held() - m.model.strangers)
    if number >= len(pairs):
        return False
    pair = pairs[number]
    if with_end:
        m.stage.vendor.give(*pair, until=m.clock.at + timedelta(days=7))
    else:
        m.stage.vendor.take(*pair)
    m.model.disturbed.add(pair)
    m.model.edited.add(pair)
    m.say(f"    somebody edits {pair}")
    return fault(m, "edit at the vendor")


@act("edits", 0.5, script=(0, 1, 2))
def stranger(m: Machine, script: int) -> bool:
    pair = ("friend", m.model.scripts[script].script_id)
    if pair in m.model.strangers:
        return False
    m.stage.vendor.give(*pair)
    m.model.strangers.add(pair)
    return fault(m, "stranger at the vendor")


# People and money.


@act("people", 5, person=tuple(range(PEOPLE)), spelling=(0, 1, 2, 3, 4), staff=(True, True, False), slowly=BOTH)
def name(m: Machine, person: int, spelling: int, staff: bool, slowly: bool) -> bool:
    """Somebody gives or changes a name. Each has two of their own; two are everybody's, one after the other."""
    who = m.model.people[person]
    word = SPELLINGS[spelling]
    chosen = word if word in ("Shared", "Common") else f"{word}{person}"

    def deed() -> None:
        house.set_name(who.user_id, chosen, by_staff=staff)
        on_commit(lambda: who.rename(chosen))

    return desk(m, f"name {chosen}", deed, slowly=slowly)


@act("money", 6, person=tuple(range(PEOPLE)))
def buy(m: Machine, person: int) -> bool:
    """Open a payment page and pay on it; the events wait in the post."""
    reasons = m.model.people[person].reasons.values()
    if any(r.ends_at is None and r.source.startswith("purchase") for r in reasons):
        return False
    return _pay(m, person, house.LIFETIME)


@act("money", 3, person=tuple(range(PEOPLE)))
def subscribe(m: Machine, person: int) -> bool:
    """The same for a plan that is paid by the month."""
    return _pay(m, person, house.MONTHLY)


def _pay(m: Machine, person: int, slug: str) -> bool:
    who = m.model.people[person]
    opened: list[tuple[int, str]] = []
    if not who.name:
        return False
    if not desk(m, "checkout", lambda: opened.append(house.open_page(who.user_id, slug)), slowly=False) or not opened:
        return False
    purchase_id, session_id = opened[0]
    if any(each.session_id == session_id for each in m.bought):
        # The page of a payment that the store has not heard of yet.
        return True
    with m.stage.app.app_context():
        if house.cashier().pay(session_id).payment != "paid":
            # The page had run out, and the store has not heard of that yet.
            return False
    m.bought.append(Bought(person, session_id, slug))
    source = f"purchase:{purchase_id}" if slug == house.LIFETIME else f"subscription:{session_id}"
    m.reason(who, source)
    who.reasons[source].is_known = False
    return True


@act("money", 6, number=(0, 1, 2, 3), again=(False, False, True), slowly=BOTH)
def deliver(m: Machine, number: int, again: bool, slowly: bool) -> bool:
    """Stripe delivers one of the events that wait, in whatever order, perhaps once more later."""
    if "web" in m.slots or number >= len(m.post):
        return False
    kind, body = m.post[number]
    if not again:
        del m.post[number]
    m.say(f"    {kind}")
    if again or number:
        m.faults["duplicate webhook" if again else "reordered webhook"] += 1
    m.delivered += 1
    m.deliver(body)
    return slowly or m.run("web")


@act("money", 1, number=(0, 1, 2, 3))
def lose_event(m: Machine, number: int) -> bool:
    """Stripe's event never comes: what it tells is found by looking, or by the daily comparison."""
    if number >= len(m.post):
        return False
    del m.post[number]
    return fault(m, "lost webhook")


@act("gifts", 2.5, person=tuple(range(PEOPLE)), seconds=(None, 40, 700, 4000), slowly=BOTH)
def gift(m: Machine, person: int, seconds: int | None, slowly: bool) -> bool:
    who = m.model.people[person]
    ends_at = m.clock.at + timedelta(seconds=seconds) if seconds else None

    def deed() -> None:
        source = house.gift(who.user_id, ends_at)
        on_commit(lambda: m.reason(who, source, ends_at))

    return desk(m, "gift", deed, slowly=slowly)


@act("gifts", 2, person=tuple(range(PEOPLE)), slowly=BOTH)
def end(m: Machine, person: int, slowly: bool) -> bool:
    """Staff end a reason, whatever it is."""
    who = m.model.people[person]
    source = next((r.source for r in who.reasons.values() if r.ends_at is None and r.source[:4] == "gift"), None)
    if source is None:
        return False

    def deed() -> None:
        if house.end(source):
            on_commit(lambda: setattr(who.reasons[source], "ends_at", m.clock.at))

    who.reasons[source].is_shaky = True
    return desk(m, f"end {source}", deed, slowly=slowly)


@act("gifts", 2, person=tuple(range(PEOPLE)), back=(False, True), slowly=BOTH)
def suspend(m: Machine, person: int, back: bool, slowly: bool) -> bool:
    """Staff put a gift to rest, or let it count again."""
    who = m.model.people[person]
    gifts = (r for r in who.reasons.values() if r.source.startswith("gift"))
    source = next((r.source for r in gifts if r.suspended is back), None)
    if source is None:
        return False

    def deed() -> None:
        if (house.resume if back else house.suspend)(source):
            on_commit(lambda: who.reasons[source].rest(not back))

    who.reasons[source].is_shaky = True
    return desk(m, f"{'resume' if back else 'suspend'} {source}", deed, slowly=slowly)


# The shop and its staff.


@act("shop", 1, script=(0, 1, 2), slowly=BOTH)
def activate(m: Machine, script: int, slowly: bool) -> bool:
    strategy = m.model.scripts[script]
    if strategy.is_live:
        return False

    def deed() -> None:
        house.activate(strategy.strategy_id)
        on_commit(lambda: setattr(strategy, "is_live", True))

    return desk(m, f"activate S{script}", deed, slowly=slowly)


@act("shop", 1, script=(0, 1, 2), letter=("a", "b", "c"), slowly=BOTH)
def change_script(m: Machine, script: int, letter: str, slowly: bool) -> bool:
    strategy = m.model.scripts[script]
    wanted = f"PUB;{script}{letter}"

    def deed() -> None:
        if house.change_script(strategy.strategy_id, wanted):
            on_commit(lambda: strategy.move(wanted))

    return desk(m, f"S{script} becomes {wanted}", deed, slowly=slowly)


@act("staff", 2, to=("MANUAL", "DISABLED", "AUTO", "AUTO"), slowly=BOTH)
def switch(m: Machine, to: str, slowly: bool) -> bool:
    return desk(m, f"switch to {to}", lambda: house.switch(to), slowly=slowly)


@act("staff", 4, number=(0, 1, 2), verdict=("done", "done", "done", "a lie", "cannot"), slowly=BOTH)
def task(m: Machine, number: int, verdict: str, slowly: bool) -> bool:
    """A person closes a task: after doing it, without having done it, or because it cannot be done."""
    tasks = m.open_tasks()
    if number >= len(tasks):
        return False
    task_id, pair, wanted = tasks[number]
    if verdict == "cannot" or (verdict == "done" and not m.can_be_done(pair, wanted=wanted)):
        return wanted and desk(m, f"task {task_id} cannot", lambda: house.task_cannot(task_id), slowly=slowly)
    if verdict == "done":
        m.by_hand(pair, wanted=wanted)
    else:
        m.model.lies.add(pair)
        m.model.edited.add(pair)
    return desk(m, f"task {task_id} {verdict}", lambda: house.task_done(task_id), slowly=slowly)


@act("staff", 1, number=(0, 1, 2), slowly=BOTH)
def retry(m: Machine, number: int, slowly: bool) -> bool:
    rows = [row for row in m.rows.values() if row.state in ("with_staff", "failed")]
    if number >= len(rows):
        return False
    return desk(m, "retry", lambda: house.retry(rows[number].id), slowly=slowly)


@act("staff", 2, person=tuple(range(PEOPLE)))
def recheck(m: Machine, person: int) -> bool:
    return desk(m, "recheck", lambda: house.recheck(m.model.people[person].user_id), slowly=False)


# The world.


@act("time", 8, seconds=SECONDS)
def pass_time(m: Machine, seconds: int) -> bool:
    m.pass_time(seconds)
    return True


@act("redis", 0.7)
def flush(m: Machine) -> bool:
    m.stage.redis.flushall()
    return fault(m, "Redis flushed")
