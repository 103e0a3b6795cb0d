"""The change of a person's e-mail address: asked for, confirmed at the new address, and called off from the old one.

Whoever holds the old mailbox can take the change back for a week, because a thief who got in once would change the
address first. For as long the old address is nobody else's.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from sts_app.accounts import letters, privacy, queries, services
from sts_app.accounts.models import EmailChange, GoogleIdentity, User
from sts_app.audit import services as audit
from sts_app.core import clock, tokens
from sts_app.core.db import claim, db
from sts_app.core.errors import Act, AlreadyDone, FixInput, Refusal

CONFIRM_PURPOSE = "email-change"
CALL_OFF_PURPOSE = "email-change-call-off"
CONFIRM_WITHIN = timedelta(days=1)
CALL_OFF_WITHIN = timedelta(days=7)
SETTINGS = Act("Your settings", "/dashboard/settings")


class SameAddress(FixInput):
    code = "SAME_ADDRESS"
    sentence = "That is the address you have already."


class ChangeOver(Refusal):
    """One sentence for used, expired, replaced and unknown links: which it was is nobody's business."""

    status = 409
    code = "CHANGE_LINK_OVER"
    title = "This link does not work any more"
    sentence = (
        "It has been used, is too old, or a later change has taken its place. Your settings say which address your "
        "account has, and you can change it there."
    )


class AddressTaken(AlreadyDone):
    code = "ADDRESS_TAKEN"
    title = "This address has an account already"
    sentence = (
        "Since you asked for it, this address has become that of another account, so yours keeps the one it has. If "
        "both accounts are yours, write to us."
    )


class AddressStays(AlreadyDone):
    """An erasure waits for every old mailbox to be heard, so none is added while it waits."""

    code = "ADDRESS_STAYS"
    title = "Your address stays as it is"
    sentence = (
        "You have asked for your account to be erased, so its address stays as it is. Keep your account first, if you "
        "want to change the address."
    )


def ask_for_change(user: User, new_email: str) -> None:
    """Send a link to `new_email` that makes it this person's address, in place of any they asked for before.

    An address that has an account already gets a letter too, without a link, so that nobody learns here who is a
    customer. Raises `SameAddress`, and `AddressStays` for somebody who has asked to be erased.
    """
    if new_email.lower() == user.email.lower():
        raise SameAddress
    privacy.refuse_closed(user)
    _refuse_leaving(user)
    now = clock.now()
    services.drop_change_of(user.id)
    secret = tokens.new_secret()
    change = EmailChange(
        user_id=user.id,
        old_email=user.email,
        new_email=new_email,
        digest=tokens.digest(CONFIRM_PURPOSE, secret),
        expires_at=now + CONFIRM_WITHIN,
    )
    db.session.add(change)
    db.session.flush()
    audit.record(f"user:{user.id}", "accounts.email_change_asked", f"user:{user.id}", change=change.id)
    if queries.is_taken(new_email, now, by_other_than=user.id):
        letters.address_taken(change)
    else:
        letters.confirm_address(change, link=tokens.sign(CONFIRM_PURPOSE, secret))


def drop_change(user: User) -> None:
    """Forget the change that waits for its link, if there is one."""
    if services.drop_change_of(user.id):
        audit.record(f"user:{user.id}", "accounts.email_change_dropped", f"user:{user.id}")


def peek_confirmation(link: str) -> EmailChange:
    """The change behind a link sent to a new address, while it is still good. Raises `ChangeOver`."""
    change = _behind(link, CONFIRM_PURPOSE, EmailChange.digest, age=CONFIRM_WITHIN)
    if change.confirmed_at is not None or change.ended_at is not None or change.expires_at <= clock.now():
        raise ChangeOver(act=SETTINGS)
    return change


def confirm(link: str) -> User:
    """Make the new address the person's own and tell the old one how to take it back. Works once.

    Raises `ChangeOver`, `AddressTaken`, `AddressStays` for somebody who has asked to be erased, and `AccountClosed`.
    """
    change = peek_confirmation(link)
    user = privacy.locked(change.user_id)
    privacy.refuse_closed(user)
    _refuse_leaving(user)
    now = clock.now()
    secret = tokens.new_secret()
    waits = sa.update(EmailChange).where(
        EmailChange.id == change.id, EmailChange.confirmed_at.is_(None), EmailChange.ended_at.is_(None)
    )
    confirmed = waits.values(
        old_email=user.email,
        confirmed_at=now,
        call_off_until=now + CALL_OFF_WITHIN,
        call_off_digest=tokens.digest(CALL_OFF_PURPOSE, secret),
    )
    if not claim(confirmed):
        raise ChangeOver(act=SETTINGS)
    if queries.is_taken(change.new_email, now, by_other_than=user.id):
        raise AddressTaken(act=SETTINGS)
    _readdress(user, change.new_email)
    db.session.refresh(change)
    audit.record(f"user:{user.id}", "accounts.email_changed", f"user:{user.id}", change=change.id)
    letters.address_changed(change, link=tokens.sign(CALL_OFF_PURPOSE, secret))
    return user


def peek_call_off(link: str) -> EmailChange:
    """The change that a link sent to an old address takes back, while it still can. Raises `ChangeOver`."""
    change = _behind(link, CALL_OFF_PURPOSE, EmailChange.call_off_digest, age=CALL_OFF_WITHIN)
    if change.ended_at is not None or change.call_off_until is None or change.call_off_until <= clock.now():
        raise ChangeOver(act=SETTINGS)
    return change


def call_off(link: str) -> User:
    """Give the account its old address back and sign everybody out of it. Works once.

    Later changes end with this one, and so does what was linked of Google since, as it may be the thief's. A wish to
    be erased was made since as well (`AddressStays`), and does not stand any more.
    Raises `ChangeOver`, `AddressTaken`, and `AccountClosed`.
    """
    change = peek_call_off(link)
    user = privacy.locked(change.user_id)
    privacy.refuse_closed(user)
    now = clock.now()
    stands = sa.update(EmailChange).where(EmailChange.id == change.id, EmailChange.ended_at.is_(None))
    if not claim(stands.values(called_off_at=now, ended_at=now)):
        raise ChangeOver(act=SETTINGS)
    later = sa.update(EmailChange).where(
        EmailChange.user_id == user.id, EmailChange.id > change.id, EmailChange.ended_at.is_(None)
    )
    db.session.execute(later.values(ended_at=now).execution_options(synchronize_session=False))
    linked_since = sa.delete(GoogleIdentity).where(
        GoogleIdentity.user_id == user.id, GoogleIdentity.created_at >= change.created_at
    )
    db.session.execute(linked_since)
    left, was_leaving = user.email, user.leaving_at is not None
    user.leaving_at = None
    services.end_sessions(user, actor=f"user:{user.id}")
    _readdress(user, change.old_email)
    db.session.refresh(change)
    audit.record(f"user:{user.id}", "accounts.email_change_called_off", f"user:{user.id}", change=change.id)
    letters.address_back(change, was_leaving=was_leaving)
    letters.address_gone(change, left)
    return user


def _behind(link: str, purpose: str, column: sa.orm.InstrumentedAttribute[object], *, age: timedelta) -> EmailChange:
    try:
        secret = tokens.read(purpose, link, max_age=int(age.total_seconds()))
    except (tokens.TokenExpired, tokens.TokenInvalid):
        raise ChangeOver(act=SETTINGS) from None
    if not isinstance(secret, str):
        raise ChangeOver(act=SETTINGS)
    found = db.session.scalar(sa.select(EmailChange).where(column.in_(tokens.digests(purpose, secret))))
    if found is None:
        raise ChangeOver(act=SETTINGS)
    return found


def _refuse_leaving(user: User) -> None:
    if user.leaving_at is not None:
        raise AddressStays(act=Act("Your data and your account", "/dashboard/privacy"))


def _readdress(user: User, email: str) -> None:
    """Two who want one address at the same moment are settled by its unique index."""
    try:
        with db.session.begin_nested():
            user.email = email
    except IntegrityError:
        raise AddressTaken(act=SETTINGS) from None
