"""The daily comparison: the provider's own lists of events and payments against what stands here.

A driver for the doors: it opens its own transactions, and none while the provider is asked. Events that
never came are stored as if they had come, and the worker handles them. A payment that differs is looked up
again, and becomes a finding for people if it still differs at the next comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from flask import current_app

from sts_app.audit import services as audit
from sts_app.billing import comparing_payments, letters, services
from sts_app.billing.gateway import Payments, PaymentsError, SignedEvent, TryLater
from sts_app.billing.models import Comparison, WebhookEvent
from sts_app.billing.rules import EventState
from sts_app.core import clock
from sts_app.core.db import db, transaction
from sts_app.core.errors import AlreadyDone, FixInput, NotNow, Refusal

log = structlog.get_logger()

SOURCE = "stripe"
FIRST_SPAN = timedelta(days=3)
# Lists may lag a little behind, and clocks differ.
OVERLAP = timedelta(hours=1)
# So long the provider remembers its events.
REMEMBERED = timedelta(days=30)
# A slow bank's payment brings its money days after it was begun, and what differed once is compared again.
PAYMENTS_BACK = timedelta(days=14)
PURCHASES_BACK = timedelta(days=2)
# What differed at a comparison so long ago, or since, differs "still".
DIFFERS_STILL = timedelta(days=3)
# A run that has not ended by then has died: its job is given five minutes.
ENDS_WITHIN = timedelta(minutes=6)
BATCH = 50
LOOKED_UP = " It is looked up again."


@dataclass(frozen=True)
class Report:
    """What a comparison found. Counts are of events of the types that the store acts on.

    `fetched` had never come and were stored by this run (a dry run stores none and counts what is missing).
    What is stored and not handled is `ignored` (about nothing of this store, or let be by staff), `waiting` for
    the worker, or `stuck`. `findings` are for people, and
    `suspicions` will be if they are still so next time. A dry run has no `comparison_id`.
    """

    comparison_id: int | None
    since: datetime
    until: datetime
    at_stripe: int
    stored: int
    handled: int
    effects: int
    fetched: int
    waiting: int
    ignored: int
    stuck: int
    findings: tuple[str, ...]
    suspicions: tuple[str, ...]


@dataclass
class _Run:
    """A run under way. `before` tells of each difference of late whether it was a finding already."""

    id: int | None
    since: datetime
    until: datetime
    before: dict[str, bool]
    findings: list[str] = field(default_factory=list)
    suspicions: list[str] = field(default_factory=list)
    event_ids: set[str] = field(default_factory=set)
    fetched: int = 0


def run(
    gateway: Payments,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    dry_run: bool = False,
    not_since: datetime | None = None,
    actor: str = audit.SYSTEM,
) -> Report:
    """Compare what the provider shows between `since` and `until` with what stands here; fetch what is missing.

    Without `since` it begins an hour before the end of what was compared last, at most thirty days ago.
    Safe to repeat, and to repeat after a crash. What was fetched before trouble stays; the span is then
    compared again next time. A dry run changes nothing. With `not_since`, a run begun since then is enough.

    Raises `FixInput` for a span that cannot be, `AlreadyDone` while another run is under way, `NotNow` when
    the provider does not answer to the end, and `Refusal` when it answers no.
    """
    with transaction():
        running = _open(since, until, dry_run=dry_run, not_since=not_since)
    with _broken_off_if_it_breaks(running):
        _compare_events(gateway, running)
        _compare_payments(gateway, running)
        with transaction():
            return _close(running, actor)


def _open(since: datetime | None, until: datetime | None, *, dry_run: bool, not_since: datetime | None) -> _Run:
    now = clock.now()
    # Stripe's times are whole seconds, and the one that runs is meant, too.
    end = now.replace(microsecond=0) + timedelta(seconds=1)
    until = min(until, end) if until is not None else end
    oldest = now - REMEMBERED
    if since is not None and since < oldest:
        raise FixInput("Stripe remembers thirty days of events: begin later.")
    # Held to the end of this transaction only, so it works behind a transaction pooler.
    db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext("billing.compare"))))
    unread = []
    if since is None:
        upto = _compared_until()
        wanted = upto - OVERLAP if upto is not None else now - FIRST_SPAN
        since = max(wanted, oldest)
        if since > wanted:
            unread.append(
                f"Events from before {since:%d %b %Y, %H:%M} UTC were not compared: Stripe has forgotten them."
            )
    if since >= until:
        raise FixInput("The beginning lies behind the end.")
    running = _Run(None, since, until, _before(now), findings=unread)
    if not dry_run:
        running.id = _claim(since, until, now, not_since)
    return running


def _claim(since: datetime, until: datetime, now: datetime, not_since: datetime | None) -> int:
    """The row of a new run, which is the claim. One that has died is marked; one that is alive is let be."""
    settings = current_app.config["STS"]
    alive = now - settings.scaled(ENDS_WITHIN) - timedelta(seconds=settings.clock_skew_seconds)
    open_ones = sa.and_(Comparison.finished_at.is_(None), Comparison.findings == [])
    for died in db.session.scalars(sa.select(Comparison).where(open_ones, Comparison.created_at <= alive)):
        died.findings = ["It broke off: its process died."]
    db.session.flush()
    if db.session.scalar(sa.select(sa.exists().where(open_ones))):
        raise AlreadyDone("Another comparison is under way. It ends within some minutes.")
    if not_since is not None and db.session.scalar(
        sa.select(sa.exists().where(Comparison.finished_at.is_not(None), Comparison.created_at >= not_since))
    ):
        raise AlreadyDone("This has been compared already.")
    opened = Comparison(since=since, until=until, findings=[])
    db.session.add(opened)
    db.session.flush()
    return opened.id


def _compared_until() -> datetime | None:
    """The end of what was compared without a gap. A run on demand may have been about another time."""
    upto: datetime | None = None
    statement = sa.select(Comparison.created_at, Comparison.since, Comparison.until)
    for created_at, since, until in db.session.execute(
        statement.where(Comparison.finished_at.is_not(None)).order_by(Comparison.id)
    ):
        upto = upto or created_at - FIRST_SPAN
        if since <= max(upto, created_at - REMEMBERED):
            upto = max(upto, until)
    return upto


def _before(now: datetime) -> dict[str, bool]:
    """Every difference that was seen of late, and whether it was a finding."""
    known: dict[str, bool] = {}
    for row in db.session.scalars(
        sa.select(Comparison.findings).where(
            Comparison.finished_at.is_not(None), Comparison.created_at > now - DIFFERS_STILL
        )
    ):
        for sentence in row:
            was_finding = not sentence.endswith(LOOKED_UP)
            plain = sentence.removesuffix(LOOKED_UP)
            known[plain] = known.get(plain, False) or was_finding
    return known


@contextmanager
def _broken_off_if_it_breaks(running: _Run) -> Iterator[None]:
    try:
        yield
    except PaymentsError as trouble:
        _break_off(running, f"Stripe did not answer to the end ({trouble.reason}).")
        sentence = (
            f"Stripe did not answer to the end ({trouble.reason}). {running.fetched} events were fetched until then, "
            "and this time is compared again by the next comparison."
        )
        raise (NotNow(sentence) if isinstance(trouble, TryLater) else Refusal(sentence)) from None
    except BaseException as error:
        # The worker's time limit arrives as an exception as well.
        _break_off(running, f"It broke off ({type(error).__name__}).")
        raise


def _break_off(running: _Run, because: str) -> None:
    log.error("billing.comparison_broken_off", comparison_id=running.id, fetched=running.fetched, because=because)
    if running.id is not None:
        with transaction():
            db.session.get_one(Comparison, running.id).findings = [because]


def _compare_events(gateway: Payments, running: _Run) -> None:
    """Store what never came, in small steps."""
    for batch in _batches(gateway.events_between(running.since, running.until)):
        with transaction():
            known = set(
                db.session.scalars(
                    sa.select(WebhookEvent.external_id).where(
                        WebhookEvent.source == SOURCE, WebhookEvent.external_id.in_([event.id for event in batch])
                    )
                )
            )
            missing = [event for event in batch if event.id not in known]
            if running.id is not None:
                missing = [event for event in missing if services.take_in(event, source=SOURCE, fetched=True)]
                db.session.get_one(Comparison, running.id).fetched = running.fetched + len(missing)
        running.fetched += len(missing)
        running.event_ids |= {event.id for event in batch}


def _batches(events: Iterable[SignedEvent]) -> Iterator[list[SignedEvent]]:
    """The events that the store acts on, some at a time. Those before trouble come before the trouble does."""
    batch: list[SignedEvent] = []
    trouble: PaymentsError | None = None
    found = iter(events)
    while True:
        try:
            event = next(found, None)
        except PaymentsError as met:
            event, trouble = None, met
        if event is None:
            break
        if services.is_handled(event.type):
            batch.append(event)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
    if trouble is not None:
        raise trouble


def _compare_payments(gateway: Payments, running: _Run) -> None:
    """Every payment of a purchase has its cents here, and every paid purchase its payment there."""
    charged = {each.intent_id: each for each in gateway.payments_between(running.since - PAYMENTS_BACK, running.until)}
    with transaction():
        differences = comparing_payments.differing(charged.values())
        news = [each for each in differences if each.sentence not in running.before]
        if running.id is not None:
            comparing_payments.look_up_again(news)
        without = comparing_payments.paid_without(charged.keys(), running.since - PURCHASES_BACK, running.until)
    running.suspicions += [each.sentence for each in news]
    running.findings += [each.sentence for each in differences if each not in news]
    running.findings += comparing_payments.missing(gateway, without)


def _close(running: _Run, actor: str) -> Report:
    counts = _counts(running.event_ids)
    if running.id is not None:
        row = db.session.get_one(Comparison, running.id, with_for_update=True)
        row.at_stripe, row.fetched, row.finished_at = len(running.event_ids), running.fetched, clock.now()
        row.stored, row.handled, row.effects = counts["stored"], counts["handled"], counts["effects"]
        row.findings = [*running.findings, *(each + LOOKED_UP for each in running.suspicions)]
        audit.record(actor, "billing.compared", f"comparison:{row.id}", fetched=running.fetched, **counts)
        news = [sentence for sentence in running.findings if not running.before.get(sentence, False)]
        if news:
            letters.does_not_add_up(row.id, news)
        log.info(
            "billing.compared",
            comparison_id=row.id,
            fetched=running.fetched,
            findings=len(running.findings),
            suspicions=len(running.suspicions),
            **counts,
        )
    return Report(
        comparison_id=running.id,
        since=running.since,
        until=running.until,
        at_stripe=len(running.event_ids),
        fetched=running.fetched,
        findings=tuple(running.findings),
        suspicions=tuple(running.suspicions),
        **counts,
    )


def _counts(event_ids: set[str]) -> dict[str, Any]:
    """Of the events at the provider: how many stand here, how far they are, and how many changed something."""
    counts = dict.fromkeys(("stored", "handled", "effects", "waiting", "ignored", "stuck"), 0)
    ids = sorted(event_ids)
    for first in range(0, len(ids), 1000):
        its = sa.and_(WebhookEvent.source == SOURCE, WebhookEvent.external_id.in_(ids[first : first + 1000]))
        how_many = sa.func.count()
        row = db.session.execute(
            sa.select(
                how_many.label("stored"),
                how_many.filter(WebhookEvent.state == EventState.HANDLED).label("handled"),
                how_many.filter(WebhookEvent.changed).label("effects"),
                how_many.filter(WebhookEvent.state == EventState.RECEIVED).label("waiting"),
                how_many.filter(WebhookEvent.state == EventState.IGNORED).label("ignored"),
                how_many.filter(WebhookEvent.state == EventState.STUCK).label("stuck"),
            ).where(its)
        ).one()
        counts = {name: counts[name] + value for name, value in row._mapping.items()}
    return counts
