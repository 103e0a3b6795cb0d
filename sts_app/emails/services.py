"""Write a letter with its deed, then claim, call, settle.

`post` stores the finished letter in the caller's transaction. A worker takes one letter at a time
in three steps, each named for its transaction: `claim_next` (commit), `call` (no transaction open),
`settle` (commit). The row's key is the provider's idempotency key, so a worker that dies anywhere
between them costs time and never a second copy. What becomes of it afterwards is in `arrivals`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, cast
from uuid import uuid4

import css_inline
import sqlalchemy as sa
import structlog
from flask import current_app
from sqlalchemy.dialects.postgresql import insert

from sts_app.core import clock, queue, tokens
from sts_app.core.db import db
from sts_app.core.errors import Refusal
from sts_app.emails import arrivals
from sts_app.emails.arrivals import WORK as WORK
from sts_app.emails.arrivals import Arrival
from sts_app.emails.gateway import Letter, Mailer, MailerError, Refused, TryLater
from sts_app.emails.models import IN_MOTION, REFUSALS_ALLOWED, EmailMessage, LetterState, MailEvent, delay_before_next
from sts_app.emails.plain import laid_out
from sts_app.emails.rules import Need, Trust, may_go
from sts_app.settings import Settings

log = structlog.get_logger()

SEALED_AS = "letter"
ARRIVED = "letter-arrived"
CONFIRMED_WITHIN = timedelta(days=1)
KEY_LENGTH = 256  # https://resend.com/docs/dashboard/emails/idempotency-keys


class ConfirmationOver(Refusal):
    """One sentence for old, changed and unknown links."""

    status = 410
    code = "LINK_EXPIRED"
    title = "This link does not work any more"
    sentence = "This link was for one day. Ask for another letter on your dashboard; it takes a minute."


@dataclass(frozen=True)
class Claim:
    """One letter that is this worker's until `lease` runs out."""

    message_id: int
    lease: str = field(repr=False)
    key: str
    letter: Letter = field(repr=False)
    claimed_at: datetime
    # The provider keeps letters to this address back, and this one is to show whether they arrive.
    lift: bool = False


@dataclass(frozen=True)
class Sent:
    """The provider took the letter; `provider_id` is its name for it."""

    provider_id: str


Answer = Sent | TryLater | Refused

_drafts: ContextVar[list[Letter] | None] = ContextVar("drafts", default=None)


def post(
    *,
    key: str,
    kind: str,
    to: str,
    subject: str,
    template: str,
    context: dict[str, Any],
    user_id: int | None = None,
    about: Collection[int] = (),
    secret: bool = False,
    need: Need = "needed",
) -> bool:
    """Store a letter in the caller's transaction, to be sent once that commits.

    `key` names the deed (`purchase-paid:12`): the first letter under a key is the only one, and False
    says that there was one already. `template` is the path without its ending, like
    `accounts/letters/sign_in`; both `.txt` and `.html` must exist, and see `app_name` and `public_url`
    beside the context. A `secret` letter's body rests encrypted, and is blank once the letter is done
    with; its subject is not encrypted and must hold nothing secret.

    `about` are the people whom a letter to staff calls by a name that is more than their address: a word that is one
    person's name is struck out of letters about them alone.

    `need` says what becomes of it where letters come back or were called spam (`rules.may_go`): *asked* for a moment
    ago, *needed*, or *spare* like a welcome or a reminder.

    To nobody (`is_nobody`) nothing is written, and False says so.

    Raises ValueError for a subject, address, kind or key that could not be a header's value.
    """
    _check(key=key, kind=kind, to=to, subject=subject)
    if is_nobody(to):
        return False
    text, html = render(template, {"letter_subject": subject, "letter_kind": kind} | context)
    settings = _settings()
    drafts = _drafts.get()
    if drafts is not None:
        drafts.append(Letter(settings.email_from, to, subject, laid_out(text), html, kind, settings.support_email))
        return True
    if secret:
        text, html = tokens.seal(SEALED_AS, text), tokens.seal(SEALED_AS, html)
    now = clock.now()
    statement = insert(EmailMessage).values(
        key=key,
        kind=kind,
        sender=settings.email_from,
        reply_to=settings.support_email,
        to_address=to,
        user_id=user_id,
        about=sorted(about) or None,
        subject=subject,
        text=text,
        html=html,
        secret=secret,
        need=need,
        state=LetterState.QUEUED,
        next_attempt_at=now,
        created_at=now,
    )
    is_new = db.session.scalar(statement.on_conflict_do_nothing(index_elements=["key"]).returning(EmailMessage.id))
    if is_new is None:
        return False
    queue.wake(WORK)
    return True


@contextmanager
def drafting() -> Iterator[list[Letter]]:
    """Collect the letters written inside, and store none of them: for whoever wants to see how they look."""
    drafts: list[Letter] = []
    before = _drafts.set(drafts)
    try:
        yield drafts
    finally:
        _drafts.reset(before)


def render(template: str, context: dict[str, Any]) -> tuple[str, str]:
    """The text and the HTML of a letter, styles inlined. Depends on no request: a job writes letters too.

    Each paragraph of the text is one line, as pages show it; `plain.laid_out` breaks it for mail programs.
    """
    settings = _settings()
    values = {
        "letter_subject": settings.app_name,
        "letter_kind": "",
        "app_name": settings.app_name,
        "public_url": settings.public_url,
        "support": settings.support_address,
        "postal_address": settings.postal_address,
    } | context
    environment = current_app.jinja_env
    text = environment.get_template(f"{template}.txt").render(values)
    html = environment.get_template(f"{template}.html").render(values)
    return text.strip() + "\n", _inliner().inline(html)


def mailer() -> Mailer:
    """The provider chosen for this process."""
    return cast(Mailer, current_app.extensions["sts_mailer"])


def claim_next(*, now: datetime) -> Claim | None:
    """Take the letter that has waited longest and lease it, or None when nothing is due.

    A letter that may have been sent so long ago that its key is forgotten is not taken: it ends as
    *unsure*, for staff to decide. One that `rules.may_go` holds back from its address ends as *withheld*.
    """
    due = sa.select(EmailMessage).where(EmailMessage.due(now)).order_by(EmailMessage.next_attempt_at, EmailMessage.id)
    due = due.limit(1).with_for_update(skip_locked=True).execution_options(populate_existing=True)
    while (row := db.session.scalar(due)) is not None:
        letter = None
        if row.is_past_asking(now):
            _end(row, LetterState.UNSURE, error=row.last_error or "no answer was recorded")
        elif (letter := _letter_of(row)) is None:
            _end(row, LetterState.FAILED, error="the body was sealed with a key that is gone")
        address = arrivals.address_for_sending(row.to_address) if letter is not None else None
        # What was asked for and began to go is this hour's trial itself, and goes on after a hiccup.
        is_begun = row.need == "asked" and row.first_tried_at is not None
        if address is not None and not is_begun and not may_go(address.standing, now, need=row.need):
            _end(row, LetterState.WITHHELD, error=f"letters to this address: {address.standing.trust}")
            letter = None
        if letter is None:
            db.session.flush()
            continue
        is_trial = row.need == "asked" and address is not None and address.standing.trust is not Trust.FINE
        if is_trial and address is not None:
            address.tried_at = now
        row.state = LetterState.SENDING
        row.lease_token = uuid4().hex
        row.leased_until = row.next_attempt_at = now + timedelta(seconds=_settings().lease_seconds)
        row.first_tried_at = row.first_tried_at or now
        # Written before the call: should this worker die in it, nobody knows from here on.
        row.unanswered_since = row.unanswered_since or now
        db.session.flush()
        return Claim(
            message_id=row.id,
            lease=row.lease_token,
            key=row.key,
            letter=letter,
            claimed_at=now,
            lift=is_trial,
        )
    return None


def call(claim: Claim) -> Answer:
    """Hand the letter over and return what was answered. Call it with no transaction open."""
    if claim.lift:
        try:
            mailer().lift(claim.letter.to)
        except MailerError as trouble:
            # The letter goes all the same: if the provider keeps it back, its event says so.
            log.warning("emails.not_lifted", message_id=claim.message_id, reason=str(trouble))
    try:
        return Sent(mailer().send(claim.letter, key=claim.key))
    except (TryLater, Refused) as answer:
        return answer


def settle(claim: Claim, answer: Answer, *, now: datetime) -> bool:
    """Write down what the call led to; False when the lease is no longer ours.

    Whoever has the lease now sends under the same key, so a late answer is safe to drop. A refusal
    counts against the three tries; an outage, a rate limit and a lost answer do not.
    """
    if isinstance(answer, Sent):
        arrivals.stand_in_line(answer.provider_id)
    row = db.session.get(EmailMessage, claim.message_id, with_for_update=True, populate_existing=True)
    if row is None or row.lease_token != claim.lease:
        log.info("emails.lease_lost", message_id=claim.message_id)
        return False
    if isinstance(answer, TryLater):
        row.waits += 1
        if answer.answered:
            _forget_doubt(row, claim)
        _queue_again(row, delay_before_next(row.waits), now=now, error=answer.reason, at_least=answer.after)
    elif isinstance(answer, Refused):
        row.tries += 1
        _forget_doubt(row, claim)
        if answer.final or row.tries >= REFUSALS_ALLOWED:
            _end(row, LetterState.FAILED, error=answer.reason)
        else:
            _queue_again(row, delay_before_next(row.tries), now=now, error=answer.reason)
    else:
        row.provider_id = answer.provider_id
        row.sent_at = now
        _forget_doubt(row, claim)
        _end(row, LetterState.SENT)
        arrivals.hear_again(row)
    return True


def confirm(token: str) -> None:
    """Somebody brings back what a letter held alone: letters to its address arrive. Safe to call twice.

    Raises `ConfirmationOver`, also when a letter written later came back.
    """
    if arrivals.arrived(peek_confirmation(token)) is Arrival.OUTDATED:
        raise ConfirmationOver(
            "A later letter to you came back, so this one shows too little. Ask for another one on your dashboard."
        )


def arrived(key: str) -> None:
    """Somebody used what only the letter under this key held, so letters to its address arrive; see `arrivals`."""
    arrivals.arrived(key)


def confirmation_of(key: str) -> str:
    """What the letter under `key` holds alone: whoever brings it back has had the letter."""
    return tokens.sign(ARRIVED, key)


def peek_confirmation(token: str) -> str:
    """The key of the letter that this was in, within a day. Raises `ConfirmationOver`."""
    try:
        key = tokens.read(ARRIVED, token, max_age=int(CONFIRMED_WITHIN.total_seconds()))
    except (tokens.TokenExpired, tokens.TokenInvalid):
        raise ConfirmationOver from None
    return str(key)


def is_nobody(address: str) -> bool:
    """Whether this is the address of somebody who was erased: nobody is reached under `.invalid` (RFC 2606)."""
    return address.lower().endswith(".invalid")


def drop_letters_before(moment: datetime) -> int:
    """Delete finished letters written before `moment`, and what was told of any; how many letters there were.

    180 days are kept.
    """
    finished = EmailMessage.state.not_in(IN_MOTION)
    statement = sa.delete(EmailMessage).where(EmailMessage.created_at < moment, finished).returning(EmailMessage.id)
    db.session.execute(sa.delete(MailEvent).where(MailEvent.created_at < moment))
    return len(db.session.scalars(statement.execution_options(synchronize_session="fetch")).all())


def _check(*, key: str, kind: str, to: str, subject: str) -> None:
    # Messages name the field and never its value: an address or a token must not reach a log this way.
    if not key or len(key) > KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise ValueError("a letter's key is 1 to 256 printable ASCII characters")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", kind):
        raise ValueError("a letter's kind is a word")
    if not re.fullmatch(r"[^\s,;<>\"@\x00-\x1f\x7f]+@[^\s,;<>\"@\x00-\x1f\x7f]+", to):
        raise ValueError("a letter goes to one plain address")
    if not subject.strip() or not subject.isprintable():
        raise ValueError("a letter's subject is one line of text")


@cache
def _inliner() -> css_inline.CSSInliner:
    # At-rules stay in a style element: dark mode cannot be an attribute.
    return css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)


def _letter_of(row: EmailMessage) -> Letter | None:
    """The letter as the provider gets it; None when its body cannot be opened any more."""
    text, html = row.text, row.html
    if row.secret:
        try:
            text, html = tokens.unseal(SEALED_AS, text), tokens.unseal(SEALED_AS, html)
        except tokens.TokenInvalid:
            return None
    return Letter(row.sender, row.to_address, row.subject, laid_out(text), html, row.kind, row.reply_to)


def _forget_doubt(row: EmailMessage, claim: Claim) -> None:
    """An answer clears the doubt about its own call, not the doubt an earlier lost answer left."""
    if row.unanswered_since == claim.claimed_at:
        row.unanswered_since = None


def _queue_again(
    row: EmailMessage, delay: timedelta, *, now: datetime, error: str, at_least: timedelta | None = None
) -> None:
    delay = max(_settings().scaled(delay), at_least or timedelta(0))
    row.state = LetterState.QUEUED
    row.lease_token = row.leased_until = None
    row.next_attempt_at = now + delay
    row.last_error = error
    queue.wake(WORK, after=delay)
    log.info("emails.retry", message_id=row.id, kind=row.kind, after=delay.total_seconds(), reason=error)


def _end(row: EmailMessage, state: LetterState, *, error: str | None = None) -> None:
    row.state = state
    row.lease_token = row.leased_until = row.next_attempt_at = None
    row.last_error = error
    # What is kept back may still be sent, but for what was asked for and has been asked for again since.
    if row.secret and (state is not LetterState.WITHHELD or row.need != "needed"):
        row.text = row.html = ""
    if state in (LetterState.SENT, LetterState.WITHHELD):
        log.info(f"emails.{state}", message_id=row.id, kind=row.kind)
    else:
        log.warning(f"emails.{state}", message_id=row.id, kind=row.kind, reason=error)


def _settings() -> Settings:
    return cast(Settings, current_app.config["STS"])
