"""Write a letter with its deed, then claim, call, settle.

`post` stores the finished letter in the caller's transaction. A worker takes one letter at a time
in three steps, each named for its transaction: `claim_next` (commit), `call` (no transaction open),
`settle` (commit). The row's key is the provider's idempotency key, so a worker that dies anywhere
between them costs time and never a second copy.
"""

from __future__ import annotations

import re
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
from sts_app.emails.gateway import Letter, Mailer, Refused, TryLater
from sts_app.emails.models import REFUSALS_ALLOWED, EmailMessage, LetterState, delay_before_next
from sts_app.settings import Settings

log = structlog.get_logger()

WORK = "emails.work"
SEALED_AS = "letter"
KEY_LENGTH = 256  # https://resend.com/docs/dashboard/emails/idempotency-keys


@dataclass(frozen=True)
class Claim:
    """One letter that is this worker's until `lease` runs out."""

    message_id: int
    lease: str = field(repr=False)
    key: str
    letter: Letter = field(repr=False)
    claimed_at: datetime


@dataclass(frozen=True)
class Sent:
    """The provider took the letter; `provider_id` is its name for it."""

    provider_id: str


Answer = Sent | TryLater | Refused


def post(
    *,
    key: str,
    kind: str,
    to: str,
    subject: str,
    template: str,
    context: dict[str, Any],
    user_id: int | None = None,
    secret: bool = False,
) -> bool:
    """Store a letter in the caller's transaction, to be sent once that commits.

    `key` names the deed (`purchase-paid:12`): the first letter under a key is the only one, and False
    says that there was one already. `template` is the path without its ending, like
    `accounts/letters/sign_in`; both `.txt` and `.html` must exist, and see `app_name` and `public_url`
    beside the context. A `secret` letter's body rests encrypted, and is blank once the letter is done
    with; its subject is not encrypted and must hold nothing secret.

    Raises ValueError for a subject, address, kind or key that could not be a header's value.
    """
    _check(key=key, kind=kind, to=to, subject=subject)
    text, html = render(template, context)
    if secret:
        text, html = tokens.seal(SEALED_AS, text), tokens.seal(SEALED_AS, html)
    now = clock.now()
    statement = insert(EmailMessage).values(
        key=key,
        kind=kind,
        sender=_settings().email_from,
        to_address=to,
        user_id=user_id,
        subject=subject,
        text=text,
        html=html,
        secret=secret,
        state=LetterState.QUEUED,
        next_attempt_at=now,
        created_at=now,
    )
    is_new = db.session.scalar(statement.on_conflict_do_nothing(index_elements=["key"]).returning(EmailMessage.id))
    if is_new is None:
        return False
    queue.wake(WORK)
    return True


def render(template: str, context: dict[str, Any]) -> tuple[str, str]:
    """The text and the HTML of a letter, styles inlined. Depends on no request: a job writes letters too."""
    settings = _settings()
    values = {"app_name": settings.app_name, "public_url": settings.public_url} | context
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
    *unsure*, for staff to decide.
    """
    due = sa.select(EmailMessage).where(EmailMessage.due(now)).order_by(EmailMessage.next_attempt_at, EmailMessage.id)
    due = due.limit(1).with_for_update(skip_locked=True).execution_options(populate_existing=True)
    while (row := db.session.scalar(due)) is not None:
        letter = None
        if row.is_past_asking(now):
            _end(row, LetterState.UNSURE, error=row.last_error or "no answer was recorded")
        elif (letter := _letter_of(row)) is None:
            _end(row, LetterState.FAILED, error="the body was sealed with a key that is gone")
        if letter is None:
            db.session.flush()
            continue
        row.state = LetterState.SENDING
        row.lease_token = uuid4().hex
        row.leased_until = row.next_attempt_at = now + timedelta(seconds=_settings().lease_seconds)
        row.first_tried_at = row.first_tried_at or now
        # Written before the call: should this worker die in it, nobody knows from here on.
        row.unanswered_since = row.unanswered_since or now
        db.session.flush()
        return Claim(message_id=row.id, lease=row.lease_token, key=row.key, letter=letter, claimed_at=now)
    return None


def call(claim: Claim) -> Answer:
    """Hand the letter over and return what was answered. Call it with no transaction open."""
    try:
        return Sent(mailer().send(claim.letter, key=claim.key))
    except (TryLater, Refused) as answer:
        return answer


def settle(claim: Claim, answer: Answer, *, now: datetime) -> bool:
    """Write down what the call led to; False when the lease is no longer ours.

    Whoever has the lease now sends under the same key, so a late answer is safe to drop. A refusal
    counts against the three tries; an outage, a rate limit and a lost answer do not.
    """
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
    return True


def drop_letters_before(moment: datetime) -> int:
    """Delete finished letters written before `moment`; how many there were (180 days are kept)."""
    finished = EmailMessage.state.in_((LetterState.SENT, LetterState.FAILED, LetterState.UNSURE))
    statement = sa.delete(EmailMessage).where(EmailMessage.created_at < moment, finished).returning(EmailMessage.id)
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
    return Letter(sender=row.sender, to=row.to_address, subject=row.subject, text=text, html=html, kind=row.kind)


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
    if row.secret:
        row.text = row.html = ""
    if state is LetterState.SENT:
        log.info("emails.sent", message_id=row.id, kind=row.kind)
    else:
        log.warning(f"emails.{state}", message_id=row.id, kind=row.kind, reason=error)


def _settings() -> Settings:
    return cast(Settings, current_app.config["STS"])
