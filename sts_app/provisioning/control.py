"""Whether automatic calls may be made: the staff switch, the circuit and the incident.

They are three things. The *switch* is what staff allow. The *circuit* opens when TradingView fails
several calls in a row, and closes by itself: one canary call at a time finds out. An *incident* opens
when TradingView refuses our session, moves the switch from AUTO to MANUAL, and is closed by a person
only. None of them spends an attempt of anybody's, and none changes what is wanted: closing makes
everything due again, whoever paid first before the others.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa
import structlog
from flask import current_app
from sqlalchemy.dialects.postgresql import insert

from sts_app.audit import services as audit
from sts_app.core import clock
from sts_app.core.db import claim, db
from sts_app.core.errors import NotNow
from sts_app.core.queue import send_staged, wake
from sts_app.provisioning import letters, queries
from sts_app.provisioning.gateway import NeedsStaff, TradingView, TryLater
from sts_app.provisioning.models import (
    Grant,
    ManualTask,
    ProvisioningAttempt,
    ProvisioningControl,
    ProvisioningIncident,
    ProvisioningJob,
    TradingViewCredential,
)
from sts_app.provisioning.rules import GrantState, Outcome, Priority, Switch, TaskKind
from sts_app.settings import Settings

log = structlog.get_logger()

# So many calls in a row without an answer open the circuit.
FAILURES_OPEN = 5
CANARY_EVERY = timedelta(minutes=10)
SESSION_CHECK_EVERY = timedelta(minutes=15)
# However many names are refused, the session is not asked for again sooner than so long after the last time.
DOUBTS_APART = timedelta(minutes=1)
BATCH = 5_000
INCIDENT = "incident:"
# What people have only because the machine was not allowed: the work itself, and what was not done as was said.
ONLY_BY_HAND = (TaskKind.BY_HAND, TaskKind.DISPUTED)


@dataclass(frozen=True)
class Standing:
    """What may be done at TradingView at this moment, and what stands in the way."""

    switch: Switch
    incident_id: int | None
    circuit_open: bool
    canary_at: datetime | None
    has_adapter: bool
    blocks_checkout: bool

    @property
    def may_read(self) -> bool:
        """Reads are for verification, and go on while writes are done by hand."""
        return (
            self.has_adapter
            and self.switch is not Switch.DISABLED
            and self.incident_id is None
            and not self.circuit_open
        )

    @property
    def may_write(self) -> bool:
        return self.may_read and self.switch is Switch.AUTO

    @property
    def by_hand(self) -> bool:
        """Everything due is a person's work."""
        return self.switch is Switch.MANUAL or (self.switch is Switch.AUTO and not self.has_adapter)

    @property
    def sales_closed(self) -> bool:
        """Nobody may begin to pay: staff closed the store, or an incident is open and staff chose to stop then."""
        return self.switch is Switch.DISABLED or (self.incident_id is not None and self.blocks_checkout)


class Check(StrEnum):
    """What asking for the session showed."""

    FINE = "fine"
    REFUSED = "refused"
    NO_ANSWER = "no answer"
    IN_DOUBT = "in doubt"  # a call about something else was refused; a worker is to ask


def standing() -> Standing:
    """Read the control row and the open incident: two small reads, nothing locked."""
    settings: Settings = current_app.config["STS"]
    row = db.session.execute(
        sa.select(
            ProvisioningControl.switch,
            ProvisioningControl.circuit_opened_at,
            ProvisioningControl.canary_at,
            sa.select(ProvisioningIncident.id).where(ProvisioningIncident.closed_at.is_(None)).scalar_subquery(),
        )
    ).one()
    return Standing(
        switch=Switch(row[0]),
        circuit_open=row[1] is not None,
        canary_at=row[2],
        incident_id=row[3],
        has_adapter=settings.provisioning_mode != "manual",
        blocks_checkout=settings.block_checkout_when_degraded,
    )


def control_row() -> ProvisioningControl:
    """The row itself, locked: who changes what may be done takes it before any other row."""
    return db.session.scalars(
        sa.select(ProvisioningControl).with_for_update().execution_options(populate_existing=True)
    ).one()


def open_incident() -> ProvisioningIncident | None:
    return db.session.scalar(sa.select(ProvisioningIncident).where(ProvisioningIncident.closed_at.is_(None)))


# The switch.


def set_switch(to: Switch, *, actor: str, because: str) -> None:
    """Staff allow or forbid automatic calls. Safe to call twice; changes nothing that is wanted.

    Refuses AUTO while an incident is open: the way back is credentials that TradingView accepts.
    Coming back to AUTO makes everything due and takes back what was handed out only because of the switch.
    """
    row = control_row()
    if to is Switch.AUTO and open_incident() is not None:
        raise NotNow(
            "TradingView refuses our session. Save credentials that it accepts (`sts credentials set`), or, if the "
            "cause was outside, let it be asked again (`sts provisioning resume`): that leads back to AUTO."
        )
    # What an incident has moved becomes what staff chose when they choose the same.
    if row.switch == to and not (row.switched_by or "").startswith(INCIDENT):
        return
    before = Switch(row.switch)
    _move(row, to, by=actor, because=because)
    audit.record(actor, "provisioning.switched", "provisioning:control", before=before, after=to, because=because)
    if to is not Switch.DISABLED:
        make_due(take_back=to is Switch.AUTO)


def _move(row: ProvisioningControl, to: Switch, *, by: str, because: str) -> None:
    row.switch, row.switched_at, row.switched_by, row.switched_because = to, clock.now(), by, because
    db.session.flush()
    log.warning("provisioning.switched", to=to.value, by=by)


# The circuit.


def note_answer() -> None:
    """A call was answered: what failed before it was not in a row."""
    db.session.execute(
        sa.update(ProvisioningControl)
        .where(ProvisioningControl.failures_in_row > 0, ProvisioningControl.circuit_opened_at.is_(None))
        .values(failures_in_row=0)
        .execution_options(synchronize_session=False)
    )


def note_failure(reason: str, *, grant_ids: Collection[int] = ()) -> None:
    """A call had no answer that makes sense. The last of several in a row opens the circuit.

    Not counted is a call about pairs whose calls failed before TradingView was last found to answer: they have
    trouble of their own, and would open the circuit again for everybody as often as it closes.
    """
    row = control_row()
    if _failed_before(row.answering_since, grant_ids):
        log.info("provisioning.own_trouble", because=reason)
        return
    row.failures_in_row += 1
    if row.circuit_opened_at is None and row.failures_in_row >= FAILURES_OPEN:
        now = clock.now()
        settings: Settings = current_app.config["STS"]
        row.circuit_opened_at, row.circuit_because = now, reason
        row.canary_at = now + settings.scaled(CANARY_EVERY)
        audit.record("system", "provisioning.circuit_opened", "provisioning:control", because=reason)
        log.error("provisioning.circuit_opened", because=reason)
        wake("provisioning.work", after=row.canary_at - now)
    db.session.flush()


def _failed_before(moment: datetime | None, grant_ids: Collection[int]) -> bool:
    """Whether a call for one of these pairs failed before `moment`, in what is tried for them now."""
    if moment is None or not grant_ids:
        return False
    earlier = (
        sa.select(ProvisioningAttempt.id)
        .join(ProvisioningJob, ProvisioningJob.id == ProvisioningAttempt.job_id)
        .join(Grant, sa.and_(Grant.id == ProvisioningJob.grant_id, Grant.cycle == ProvisioningJob.cycle))
        .where(
            Grant.id.in_(grant_ids),
            ProvisioningAttempt.outcome == Outcome.LATER,
            ProvisioningAttempt.finished_at <= moment,
        )
    )
    return bool(db.session.scalar(sa.select(earlier.exists())))


def work_due(now: datetime) -> int:
    """How much a worker woken now could do: due pairs, the one canary of an open circuit, or nothing."""
    stands = standing()
    if stands.switch is Switch.DISABLED:
        return 0
    waits_for_canary = stands.circuit_open and stands.incident_id is None
    canary = int(waits_for_canary and stands.canary_at is not None and stands.canary_at <= now)
    if stands.circuit_open and not stands.by_hand:
        return canary
    return canary + queries.grants_due(now, may_read=stands.may_read)


def claim_canary() -> bool:
    """Take the one call that an open circuit allows now; the next is as far off as if this one failed."""
    settings: Settings = current_app.config["STS"]
    now = clock.now()
    return claim(
        sa.update(ProvisioningControl)
        .where(
            ProvisioningControl.circuit_opened_at.is_not(None),
            ProvisioningControl.canary_at <= now,
            ProvisioningControl.switch != Switch.DISABLED,
            ~sa.exists().where(ProvisioningIncident.closed_at.is_(None)),
        )
        .values(canary_at=now + settings.scaled(CANARY_EVERY))
    )


def close_circuit() -> None:
    """The canary came back: everything is due. One more failure opens the circuit again at once."""
    row = control_row()
    if row.circuit_opened_at is None:
        return
    opened_at = row.circuit_opened_at
    row.circuit_opened_at = row.circuit_because = row.canary_at = None
    row.failures_in_row = FAILURES_OPEN - 1
    row.answering_since = clock.now()
    db.session.flush()
    audit.record("system", "provisioning.circuit_closed", "provisioning:control", opened_at=opened_at.isoformat())
    log.warning("provisioning.circuit_closed")
    make_due(failed_since=opened_at)


# The session.


def ask_session(adapter: TradingView) -> tuple[Check, str]:
    """Ask TradingView whether our session lives: one call, with nothing open. Raises nothing."""
    try:
        adapter.check_session()
    except NeedsStaff as trouble:
        return Check.REFUSED, trouble.reason
    except TryLater as trouble:
        return Check.NO_ANSWER, trouble.reason
    return Check.FINE, ""


def claim_session_check() -> bool:
    """Take the session check of this quarter of an hour, when one may be made; false when another has it."""
    settings: Settings = current_app.config["STS"]
    now = clock.now()
    return claim(
        sa.update(ProvisioningControl)
        .where(
            ProvisioningControl.circuit_opened_at.is_(None),
            ProvisioningControl.switch != Switch.DISABLED,
            ~sa.exists().where(ProvisioningIncident.closed_at.is_(None)),
            sa.or_(
                ProvisioningControl.session_checked_at.is_(None),
                ProvisioningControl.session_checked_at <= now - settings.scaled(SESSION_CHECK_EVERY) * 0.9,
            ),
        )
        .values(session_checked_at=now)
    )


def doubt_session(because: str) -> None:
    """Let a worker ask for the session at once: the next check on schedule may be a quarter of an hour away.

    Not asked for here, where a person waits for an answer; and one refused name is too little to stop everything
    for. In a transaction of its own, because a checkout that is refused rolls its own back.
    """
    settings: Settings = current_app.config["STS"]
    asked_at = ProvisioningControl.session_checked_at
    is_old = sa.or_(asked_at.is_(None), asked_at <= clock.now() - settings.scaled(DOUBTS_APART))
    # Whoever holds the row is deciding what may be done, and a visitor does not wait for that.
    free = sa.select(ProvisioningControl.id).where(is_old).with_for_update(skip_locked=True)
    with db.engine.begin() as connection:
        doubted = connection.execute(
            sa.update(ProvisioningControl)
            .where(ProvisioningControl.id.in_(free))
            .values(session_checked_at=None, session_verdict=Check.IN_DOUBT.value)
        )
    if doubted.rowcount:
        log.warning("provisioning.session_doubted", because=because)
        with current_app.app_context():
            wake("provisioning.check_session")
            send_staged()


def settle_check(check: Check, reason: str, *, credential_id: int | None) -> None:
    """Draw the conclusions of a canary or a session check."""
    row = control_row()
    row.session_checked_at, row.session_verdict = clock.now(), check.value
    if check is Check.FINE and row.circuit_opened_at is not None:
        close_circuit()
    elif check is Check.FINE:
        note_answer()
    elif check is Check.REFUSED:
        refuse_session(reason, credential_id=credential_id)
    else:
        note_failure(reason)


def refuse_session(reason: str, *, credential_id: int | None) -> None:
    """TradingView refused our session: open an incident, or note one more refusal of the open one.

    `credential_id` names the credentials that were refused. A refusal of others than the active ones is
    a late echo: somebody has saved better ones meanwhile.
    """
    if note_refusal(reason, credential_id=credential_id):
        make_due()


def note_refusal(reason: str, *, credential_id: int | None) -> bool:
    """The same for who goes on to lock people: true when it opened an incident, so that `make_due` has to follow.

    That takes rows of everybody: nobody may wait for a person after it.
    """
    row = control_row()
    active = db.session.scalar(sa.select(TradingViewCredential.id).where(TradingViewCredential.retired_at.is_(None)))
    if credential_id != active:
        log.info("provisioning.late_refusal", credential_id=credential_id)
        return False
    now = clock.now()
    settings: Settings = current_app.config["STS"]
    incident_id = db.session.scalar(
        insert(ProvisioningIncident)
        .values(
            reason=reason,
            told=list(settings.admin_emails),
            credential_id=credential_id,
            refusals=1,
            last_refused_at=now,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(ProvisioningIncident.id)
    )
    if incident_id is None:
        db.session.execute(
            sa.update(ProvisioningIncident)
            .where(ProvisioningIncident.closed_at.is_(None))
            .values(refusals=ProvisioningIncident.refusals + 1, last_refused_at=now)
            .execution_options(synchronize_session="fetch")
        )
        return False
    row.session_verdict = Check.REFUSED.value
    # What the circuit waited for is known now, and a person has to act.
    row.circuit_opened_at = row.circuit_because = row.canary_at = None
    row.failures_in_row = 0
    if row.switch == Switch.AUTO:
        _move(row, Switch.MANUAL, by=f"{INCIDENT}{incident_id}", because=reason)
    audit.record("system", "provisioning.incident_opened", f"incident:{incident_id}", because=reason)
    letters.session_refused(incident_id, reason)
    log.error("provisioning.incident_opened", incident_id=incident_id, because=reason)
    return True


def session_restored(*, actor: str, because: str) -> bool:
    """A person has seen to it that TradingView accepts us again, and it was asked. False when nothing was open.

    Closes the incident. The switch goes back to AUTO if it was the incident that moved it; what staff
    chose themselves stays as they chose it.
    """
    row = control_row()
    incident = open_incident()
    row.session_checked_at, row.session_verdict = clock.now(), Check.FINE.value
    if incident is None:
        return False
    incident.closed_at, incident.closed_by, incident.closed_because = clock.now(), actor, because
    opened_at = incident.created_at
    row.answering_since = clock.now()
    moved = row.switched_by == f"{INCIDENT}{incident.id}"
    if moved:
        _move(row, Switch.AUTO, by=actor, because=because)
    db.session.flush()
    audit.record(actor, "provisioning.incident_closed", f"incident:{incident.id}", because=because)
    letters.session_restored(incident.id, by=actor, automatic=row.switch == Switch.AUTO)
    log.warning("provisioning.incident_closed", incident_id=incident.id)
    make_due(take_back=moved, failed_since=opened_at)
    return True


# Everything is due.


def take_back_left_behind() -> None:
    """Take from people what they have only because the machine was not allowed, and was passed over when it was.

    A row that somebody held at the moment when staff went back to AUTO, or a store that has got its adapter since.
    """
    by_hand = sa.exists().where(ManualTask.closed_at.is_(None), ManualTask.kind.in_(ONLY_BY_HAND))
    if standing().may_write and db.session.scalar(sa.select(by_hand)):
        make_due(take_back=True)


def make_due(*, take_back: bool = False, failed_since: datetime | None = None) -> None:
    """Make what waits due now, oldest paid first, with its delays forgotten.

    `take_back` takes open tasks from people that were handed out only because the machine was not
    allowed; `failed_since` also those whose tries ran out since then. Whatever somebody works on at this
    moment is passed over: its own step decides.
    """
    now = clock.now()
    late = sa.or_(Grant.next_attempt_at > now, Grant.priority == Priority.RETRY)
    moving = Grant.state.in_((GrantState.PENDING, GrantState.REVOKING))
    waits = sa.and_(moving, Grant.next_attempt_at.is_not(None), late)
    handed_out: list[sa.ColumnElement[bool]] = []
    if take_back:
        handed_out.append(ManualTask.kind.in_(ONLY_BY_HAND))
    if failed_since is not None:
        handed_out.append(sa.and_(ManualTask.kind == TaskKind.EXHAUSTED, ManualTask.created_at >= failed_since))
    if handed_out:
        tasks = sa.select(ManualTask.grant_id).where(ManualTask.closed_at.is_(None), sa.or_(*handed_out))
        waits = sa.or_(waits, sa.and_(Grant.state == GrantState.WITH_STAFF, Grant.id.in_(tasks)))
    free = sa.select(Grant.id).where(waits, Grant.lease_token.is_(None)).order_by(Grant.id)
    ids = db.session.scalars(free.with_for_update(skip_locked=True)).all()
    for start in range(0, len(ids), BATCH):
        _make_due(ids[start : start + BATCH], now)
    db.session.expire_all()
    wake("provisioning.work")


def _make_due(ids: Sequence[int], now: datetime) -> None:
    for statement in (
        sa.update(ManualTask)
        .where(ManualTask.grant_id.in_(ids), ManualTask.closed_at.is_(None))
        .values(closed_at=now, closed_by="system", closed_because="automatic calls work again"),
        sa.update(ProvisioningJob)
        .where(ProvisioningJob.grant_id.in_(ids), ProvisioningJob.state == "with_staff")
        .values(state="open"),
        sa.update(Grant)
        .where(Grant.id.in_(ids))
        .values(
            state=sa.case((Grant.wanted, GrantState.PENDING), else_=GrantState.REVOKING),
            next_attempt_at=now,
            failed_tries=0,
            spent_tries=sa.case((Grant.state == GrantState.WITH_STAFF, 0), else_=Grant.spent_tries),
            lost_claims=0,
            # Who was tried again waits no longer behind who was not: they paid earlier.
            priority=sa.case((Grant.priority == Priority.RETRY, Priority.BUYER), else_=Grant.priority),
        ),
    ):
        db.session.execute(statement.execution_options(synchronize_session=False))
