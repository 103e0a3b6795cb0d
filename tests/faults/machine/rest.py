"""The end of a history: the faults stop, the people come back, and everything has to come right by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from tests.faults.machine import books, house
from tests.faults.machine.history import SLOTS, Machine

ROUNDS = 90
QUEUES = {"billing": "billing", "provisioning": "provisioning", "emails": "emails"}
RECONCILED = 3
SOON = timedelta(hours=2)

_NEXT = """
    SELECT min(at) FROM (
        SELECT next_attempt_at AS at FROM grants
        UNION ALL SELECT leased_until FROM grants
        UNION ALL SELECT next_attempt_at FROM webhook_event
        UNION ALL SELECT next_look_up_at FROM purchase
        UNION ALL SELECT next_attempt_at FROM refund
        UNION ALL SELECT next_attempt_at FROM dispute
        UNION ALL SELECT next_look_up_at FROM subscription
        WHERE tries > 0 OR lease_token IS NOT NULL OR cancel_because IS NOT NULL OR next_look_up_at <= %s
        UNION ALL SELECT next_attempt_at FROM email_message WHERE state IN ('queued', 'sending')
        UNION ALL SELECT canary_at FROM provisioning_control
    ) AS waiting
"""


def rest(m: Machine) -> None:
    """Bring a history to rest and check everything that must hold then. Raises `Broken`."""
    m.say("--- the faults stop")
    m.stage.behave()
    for call in list(m.gate.late):
        m.gate.carry_out(call)
    _let_all_finish(m)
    _at_desk(m, "credentials", house.new_credentials)
    _at_desk(m, "switch to AUTO", lambda: house.switch("AUTO"))
    while m.post:
        _, body = m.post.pop(0)
        m.deliver(body)
        _let_all_finish(m)
    _name_the_nameless(m)
    rounds = _until_quiet(m, 0)
    # Events that never came are fetched by the daily comparison.
    m.start("desk", "compare", m.stage.in_app(house.compare))
    _let_all_finish(m)
    rounds = _until_quiet(m, rounds)
    if books.running(m):
        # Each is looked at every day, and what is not paid in time comes to rest.
        for wait in (timedelta(hours=25), timedelta(days=m.stage.settings.subscription_grace_days)):
            m.pass_time(wait.total_seconds())
            rounds = _until_quiet(m, rounds)
    if m.stage.reconciles and m.needs_reconciling:
        for _ in range(RECONCILED):
            m.pass_time(25 * 3600)
            _work(m, "reconcile")
            if m.lockstep.ask("SELECT state FROM reconciliation_run ORDER BY id DESC LIMIT 1") == [("refused",)]:
                # So much is gone that it takes a person's word for it.
                m.start("desk", "reconcile, losses are real", m.stage.in_app(house.reconcile_losses))
                _let_all_finish(m)
            rounds = _until_quiet(m, rounds)
    # Letters about what stood already wait for a few minutes.
    m.pass_time(180)
    _until_quiet(m, rounds)
    check(m)


def _until_quiet(m: Machine, rounds: int) -> int:
    while True:
        rounds += 1
        if rounds > ROUNDS:
            m.fail(f"no rest after {ROUNDS} rounds: {_what_waits(m)}")
        _work(m, "sweep")
        for queue, job in QUEUES.items():
            # The wake-ups decide who works: what nobody was woken for waits for the sweep.
            if m.stage.redis.delete(f"rq:queue:{queue}"):
                _work(m, job)
        _do_tasks(m)
        at = _next_moment(m)
        if at is None and not _anything_queued(m):
            return rounds
        wait = (at - m.clock.at).total_seconds() + 1 if at is not None else 0
        m.pass_time(max(60.0, wait))


def _work(m: Machine, job: str) -> None:
    m.start("w0", job, m.stage.job(job))
    _let_all_finish(m)


def _let_all_finish(m: Machine) -> None:
    for _ in range(20):
        for slot in SLOTS:
            m.run(slot)
        m.look()
        if not m.slots:
            return
    m.fail(f"they wait for each other: {sorted(actor.name for actor in m.slots.values())}")


def _at_desk(m: Machine, what: str, deed: Callable[[], Any]) -> None:
    m.start("desk", what, m.stage.in_transaction(deed))
    _let_all_finish(m)


def _name_the_nameless(m: Machine) -> None:
    """Who gave a name that TradingView does not know, or none, gives a good one now; others stand by theirs."""
    for person in m.model.people:
        waits = any(row.state == "needs_customer" and row.name_key == person.name for row in m.rows.values())
        if waits and not person.name.startswith("unknown"):
            spelling = person.spelling
            _at_desk(m, f"name {spelling} again", partial(house.set_name, person.user_id, spelling))
        if not person.name or person.name.startswith("unknown"):
            chosen = f"Final{person.number}"
            _at_desk(m, f"name {chosen}", partial(house.set_name, person.user_id, chosen))
            person.rename(chosen)


def _do_tasks(m: Machine) -> None:
    """A person does what the worklist says, at TradingView, and says so."""
    for task_id, pair, wanted in m.open_tasks():
        if not m.can_be_done(pair, wanted=wanted):
            _at_desk(m, f"task {task_id} cannot", partial(house.task_cannot, task_id))
            continue
        m.say(f"    a person does task {task_id}: {'give' if wanted else 'remove'} {pair}")
        m.by_hand(pair, wanted=wanted)
        _at_desk(m, f"task {task_id} done", partial(house.task_done, task_id))
    for row in [row for row in m.rows.values() if row.state == "failed" and m.can_be_done(row.pair, wanted=True)]:
        _at_desk(m, "retry", partial(house.retry, row.id))


def _next_moment(m: Machine) -> datetime | None:
    # A subscription is looked at every day for as long as it runs.
    moment = m.lockstep.ask(_NEXT, m.clock.at + SOON)[0][0]
    return moment if isinstance(moment, datetime) else None


def _anything_queued(m: Machine) -> bool:
    return any(m.stage.redis.exists(f"rq:queue:{queue}") for queue in QUEUES) or bool(m.open_tasks())


def _what_waits(m: Machine) -> str:
    rows = m.lockstep.ask(
        "SELECT name_key, script_id, state, wanted, last_reason FROM grants WHERE next_attempt_at IS NOT NULL"
        " OR lease_token IS NOT NULL OR state NOT IN ('verified', 'absent') ORDER BY id"
    )
    control = m.lockstep.ask("SELECT switch, circuit_opened_at IS NOT NULL FROM provisioning_control")
    return f"{rows}, control {control}, tasks {m.open_tasks()}"


# What must hold when all is quiet.


def check(m: Machine) -> None:
    m.say("--- at rest")
    books.settled(m)
    _holders_are_right(m)
    _letters_are_right(m)
    left = m.lockstep.ask(
        "SELECT (SELECT count(*) FROM provisioning_attempt WHERE finished_at IS NULL),"
        " (SELECT count(*) FROM grants WHERE lease_token IS NOT NULL)"
    )[0]
    if left != (0, 0):
        m.fail(f"attempts still open and leases still held: {left}")
    with m.stage.engine.connect() as connection:
        offenders = house.invariants(connection, m.clock.at)
    if offenders:
        m.fail(f"invariants are broken: {offenders}")


def _holders_are_right(m: Machine) -> None:
    held = m.stage.held()
    desired = m.model.desired(m.clock.at) | m.model.strangers
    # What somebody broke at TradingView is reconciliation's to find; without one it is nobody's.
    excused = set() if m.stage.reconciles else m.model.edited
    missing, extra = desired - held - excused, held - desired
    if missing or extra:
        m.fail(f"TradingView lacks {sorted(missing)} and has too much {sorted(extra)}")
    active = {row.pair for row in m.rows.values() if row.state == "verified"}
    if active != m.model.desired(m.clock.at):
        m.fail(f"Active in our rows {sorted(active)}, desired {sorted(m.model.desired(m.clock.at))}")


def _letters_are_right(m: Machine) -> None:
    """Each letter once for each deed, and all of them sent."""
    states = Counter(dict(m.lockstep.ask("SELECT state, count(*) FROM email_message GROUP BY state")))
    # A worker that died while it sent, longer ago than the mail provider remembers: staff decide, nobody sends again.
    if set(states) - {"sent", "unsure"}:
        m.fail(f"letters are not sent: {dict(states)}")
    written = {row[0] for row in m.lockstep.ask("SELECT key FROM email_message")}
    arrived = m.stage.letters().total()
    if not states["sent"] <= arrived <= len(written):
        m.fail(f"{len(written)} letters were written and {arrived} arrived")
    for entitlement_id, user_id, announced_at, ends_at in m.lockstep.ask(
        "SELECT id, user_id, announced_at, ends_at FROM entitlement WHERE suspended_at IS NULL"
    ):
        holds = ends_at is None or ends_at > m.clock.at
        granted = f"access-granted:{entitlement_id}" in written
        if holds and not (granted and announced_at is not None):
            m.fail(f"user {user_id} has access and was not told (entitlement {entitlement_id})")
    told = m.lockstep.ask(
        "SELECT user_id, count(*) FROM email_message WHERE kind = 'access_failed'"
        " AND subject LIKE 'Please check%' GROUP BY user_id"
    )
    for user_id, count in told:
        person = next(person for person in m.model.people if person.user_id == user_id)
        # Asked anew: when access comes back after it had ended, and for a script that is added later.
        later = m.acts["activate"] + m.acts["change_script"]
        allowed = sum(m.turns_to_wanted(name) + later for name in person.names if name.startswith("unknown"))
        # Said of a good name as well: a fork says so of names it does not know.
        allowed += m.faults["404 page"]
        if count > allowed:
            m.fail(f"P{person.number} was told {count} times of unknown names, and {allowed} at most")
    incidents = m.lockstep.ask("SELECT count(*) FROM provisioning_incident")[0][0]
    refusals = sum(key.startswith("session-refused") for key in written)
    if refusals != incidents:
        m.fail(f"{incidents} incidents, and staff were told {refusals} times")
