"""Sign-in with Google: whose account it is, what is linked, and what is not believed."""

from __future__ import annotations

from typing import cast

import sqlalchemy as sa
from email_validator import EmailNotValidError, validate_email
from flask import current_app
from sqlalchemy.exc import IntegrityError

from sts_app.accounts import letters, privacy, queries, services
from sts_app.accounts.gateway import Google, GooglePerson
from sts_app.accounts.models import GoogleIdentity, User
from sts_app.accounts.services import SignedIn
from sts_app.audit import services as audit
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import Act, NotThere, Refusal

EXTENSION = "sts_google"
SIGN_IN = Act("Back to sign-in", "/sign-in")


class Unverified(Refusal):
    """Google has not checked that the address belongs to whoever has the account, so neither do we believe it."""

    status = 403
    code = "GOOGLE_UNVERIFIED"
    title = "Google has not verified your address"
    sentence = (
        "Your Google account has no e-mail address that Google has verified, so it cannot sign you in here. Sign in by "
        "a letter instead, or verify the address at Google and try again."
    )


class AnotherGoogle(Refusal):
    """The account of this address is linked to another Google account than the one that came."""

    status = 403
    code = "GOOGLE_ANOTHER"
    title = "Another Google account is linked"
    sentence = (
        "The account of this address signs in with another Google account. Sign in by a letter instead; in your "
        "settings you can unlink the other one."
    )


def google() -> Google:
    """Google, as configured for this process. Raises `NotThere` where it is not offered."""
    found = current_app.extensions.get(EXTENSION)
    if found is None:
        raise NotThere
    return cast(Google, found)


def is_offered() -> bool:
    """Whether people may sign in with Google."""
    return EXTENSION in current_app.extensions


def sign_in(person: GooglePerson, *, device: str, remember: bool, next_path: str | None) -> SignedIn:
    """Sign in whoever Google says is there: by the link that stands, or else by the address that Google verified.

    The first time links the two, and makes the account if nobody has the address. From then on the link counts,
    whatever becomes of either address. Raises `Unverified`, `AnotherGoogle`, `AddressMoved` and `AccountClosed`.
    """
    email = _as_we_spell(person.email)
    if not person.email_is_verified or email is None:
        raise Unverified(act=SIGN_IN)
    identity = db.session.scalar(sa.select(GoogleIdentity).where(GoogleIdentity.subject == person.subject))
    is_new = False
    if identity is None:
        user, is_new = services.account_for(email)
        identity = _link(user, person.subject, email, is_new=is_new)
    else:
        user = db.session.get_one(User, identity.user_id)
        privacy.refuse_closed(user)
    identity.last_used_at = clock.now()
    identity.email = email
    if is_new:
        user.name = _fit(person.name)
    return services.welcome_in(
        user, way=services.BY_GOOGLE, device=device, remember=remember, next_path=next_path, is_new=is_new
    )


def unlink(user: User) -> bool:
    """Forget the Google account of this person; sign-in by letter stays. False when none is linked."""
    identity = queries.google_of(user.id)
    if identity is None:
        return False
    db.session.delete(identity)
    audit.record(f"user:{user.id}", "accounts.google_unlinked", f"user:{user.id}")
    return True


def _link(user: User, subject: str, email: str, *, is_new: bool) -> GoogleIdentity:
    identity = GoogleIdentity(user_id=user.id, subject=subject, email=email)
    try:
        with db.session.begin_nested():
            db.session.add(identity)
    except IntegrityError:
        # Another Google account, or the same one in two windows at once.
        standing = queries.google_of(user.id)
        if standing is None or standing.subject != subject:
            raise AnotherGoogle(act=SIGN_IN) from None
        return standing
    audit.record(f"user:{user.id}", "accounts.google_linked", f"user:{user.id}", identity=identity.id)
    if not is_new:
        letters.google_linked(user, identity)
    return identity


def _as_we_spell(email: str) -> str | None:
    """The spelling that sign-in by letter would have of this address; None for what is none."""
    try:
        return str(validate_email(email, check_deliverability=False).normalized)
    except EmailNotValidError:
        return None


def _fit(name: str) -> str:
    """The name Google has, as far as one may be called so here."""
    return "".join(character for character in name if character.isprintable()).strip()[:100]
