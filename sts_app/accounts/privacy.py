"""A person on their way out: what stays shut to them, and this room's rows about them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from sts_app.accounts import ways_in
from sts_app.accounts.models import LoginToken, Role, User, UserSession, Visit
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import Act, AlreadyDone, Refusal

# Why a reason for access ended whose person asked to be erased. Nothing of money brings it back.
ERASED = "the account was erased"
# RFC 2606: nobody has an address there, and no letter leaves for it.
NOBODY = "erased.invalid"


class AccountClosed(Refusal):
    """The account is being erased, so it opens to nobody any more."""

    status = 403
    code = "ACCOUNT_CLOSED"
    title = "This account is being erased"
    sentence = (
        "This account is being erased, as you asked, so nobody can sign in to it any more. Once that is done, the same "
        "address can be used for a new account. The letter that confirmed your request leads to how far it is."
    )


class Leaving(AlreadyDone):
    """Whoever has asked to be erased buys nothing."""

    code = "ACCOUNT_LEAVING"
    title = "You have asked to be erased"
    sentence = (
        "You have asked for your account to be erased, and access would be taken away with it, so nothing can be "
        "bought now. Nothing was charged. Keep your account first, if you want to buy."
    )


def refuse_closed(user: User) -> None:
    """Take this person's turn and raise `AccountClosed` if their account has closed meanwhile."""
    db.session.refresh(user, with_for_update={"key_share": True})
    if user.closed_at is not None:
        raise AccountClosed(cause=f"user:{user.id}")


def refuse_leaving(user_id: int) -> None:
    """Raise `Leaving` if this person has asked to be erased, and keep them from it to the end of this transaction."""
    statement = sa.select(User.leaving_at).where(User.id == user_id).with_for_update(read=True)
    if db.session.scalar(statement) is not None:
        raise leaving(user_id)


def leaving(user_id: int) -> Leaving:
    """The refusal, with the way to the page where one can stay. The privacy page is on a floor above."""
    return Leaving(cause=f"user:{user_id}", act=Act("Your data and your account", "/dashboard/privacy"))


def is_closed(user_id: int) -> bool:
    """Whether this account is being erased, or is."""
    return db.session.scalar(sa.select(User.closed_at).where(User.id == user_id)) is not None


def is_erased(user_id: int) -> bool:
    """Whether nothing is left of who this was."""
    return db.session.scalar(sa.select(User.erased_at).where(User.id == user_id)) is not None


def locked(user_id: int) -> User:
    """The person with their turn taken, as everywhere: the lock that sign-in, buying and access go through."""
    return db.session.get_one(User, user_id, with_for_update={"key_share": True}, populate_existing=True)


def close(user: User) -> int:
    """Shut the account: every session ends and no letter signs in. How many sessions that were. Safe to call twice.

    The person's turn is taken by the caller.
    """
    user.closed_at = user.closed_at or clock.now()
    ended = sa.delete(UserSession).where(UserSession.user_id == user.id).returning(UserSession.id)
    count = len(db.session.scalars(ended.execution_options(synchronize_session="fetch")).all())
    _drop_letters(user.email)
    return count


def forget(user: User) -> None:
    """Replace what says who this is. The row stays, because payments and deeds hang on it. Safe to call twice.

    The person's turn is taken by the caller.
    """
    close(user)
    ways_in.forget(user.id)
    db.session.execute(sa.delete(Visit).where(Visit.user_id == user.id))
    user.email, user.name, user.role = f"erased-{user.id}@{NOBODY}", "", Role.USER
    user.last_sign_in_at = None
    user.erased_at = user.erased_at or clock.now()


def rows_of_person(user_id: int) -> dict[str, Any]:
    """What accounts keeps about a person, ready for JSON. Moments are ISO 8601 in UTC; nothing secret is in it."""
    user = db.session.get_one(User, user_id)
    sessions = db.session.scalars(sa.select(UserSession).where(UserSession.user_id == user_id).order_by(UserSession.id))
    asked = db.session.scalars(
        sa.select(LoginToken)
        .where(sa.func.lower(LoginToken.email) == sa.func.lower(sa.literal(user.email)))
        .order_by(LoginToken.id)
    )
    visit = db.session.get(Visit, user_id)
    return {
        "account": {
            "email": user.email,
            "name": user.name,
            "since": user.created_at.isoformat(),
            "last_sign_in_at": user.last_sign_in_at.isoformat() if user.last_sign_in_at else None,
            "last_dashboard_visit_at": visit.seen_at.isoformat() if visit is not None else None,
            "is_staff": user.is_staff,
            "erasure_asked_at": user.leaving_at.isoformat() if user.leaving_at else None,
        },
        "texts_accepted": {
            "version": user.texts_version,
            "at": user.texts_accepted_at.isoformat() if user.texts_accepted_at else None,
        },
        "sessions": [
            {
                "begun_at": each.created_at.isoformat(),
                "by": each.way or None,
                "with": each.device or None,
                "last_seen_at": each.seen_at.isoformat() if each.seen_at else None,
                "ends_at": each.expires_at.isoformat(),
                "ended_at": each.revoked_at.isoformat() if each.revoked_at else None,
            }
            for each in sessions
        ],
        "sign_in_letters": [
            {
                "asked_at": each.created_at.isoformat(),
                "used_at": each.used_at.isoformat() if each.used_at else None,
                "wrong_tries": each.wrong_tries,
                "led_to": each.next_path,
            }
            for each in asked
        ],
        **ways_in.rows_of_person(user_id),
    }


def _drop_letters(email: str) -> None:
    asked = sa.delete(LoginToken).where(sa.func.lower(LoginToken.email) == sa.func.lower(sa.literal(email)))
    db.session.execute(asked.execution_options(synchronize_session="fetch"))
