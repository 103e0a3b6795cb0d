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
from sts_app.core.errors import Act, AlreadyDone, NotThere, Refusal

EXTENSION = "sts_google"
SIGN_IN = Act("Back to sign-in", "/sign-in")
SETTINGS = Act("Your settings", "/dashboard/settings")


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


class Unlinked(Refusal):
    """Whoever unlinked Google from an account wants it to stay out, whatever address it has."""

    status = 403
    code = "GOOGLE_UNLINKED"
    title = "Google is unlinked from this account"
    sentence = (
        "Google was unlinked from this account in its settings, so it does not sign in here. Sign in by a letter; "
        "in your settings you can link a Google account again."
    )


class AnotherPerson(Refusal):
    """Who is signed in and has to show that it is them, came back from Google as somebody else."""

    status = 403
    code = "GOOGLE_ANOTHER_PERSON"
    title = "This Google account is not that of your account"

    def __init__(self, present: User, email: str, *, act: Act) -> None:
        super().__init__(
            f"You are signed in as {present.email}, and the Google account of {email} does not open that. Choose "
            "the right Google account, or sign in by a letter. To use another account of yours, sign out first.",
            act=act,
        )


class GoogleTaken(AlreadyDone):
    code = "GOOGLE_TAKEN"
    title = "This Google account is linked already"
    sentence = (
        "This Google account signs in to another account of this store, so it cannot be linked to yours. Unlink it "
        "there first, or choose another Google account."
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


def sign_in(
    person: GooglePerson, *, device: str, remember: bool, next_path: str | None, present: User | None = None
) -> SignedIn:
    """Sign in whoever Google says is there: by the link that stands, or else by the address that Google verified.

    The first time links the two, and makes the account if nobody has the address. From then on the link counts,
    whatever becomes of either address. `present` is who is signed in to this browser already, and nobody else gets in.

    Raises `Unverified`, `AnotherGoogle`, `Unlinked`, `AnotherPerson`, `AddressMoved` and `AccountClosed`.
    """
    email = _verified(person)
    identity = _known_as(person.subject)
    if present is not None:
        is_theirs = identity.user_id == present.id if identity is not None else queries.is_of(email, present.id)
        if not is_theirs:
            raise AnotherPerson(present, email, act=SIGN_IN)
    if identity is not None and identity.unlinked_at is not None:
        raise Unlinked(act=SIGN_IN)
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


def link(user: User, person: GooglePerson) -> None:
    """Let this Google account sign in to the account of somebody who has just shown who they are.

    It takes the place of one that was unlinked. Quiet when it is linked already. Raises `Unverified`, `AnotherGoogle`
    and `GoogleTaken`.
    """
    email = _verified(person)
    privacy.refuse_closed(user)
    own, same = queries.google_of(user.id), _known_as(person.subject)
    if same is not None and same.user_id != user.id and same.unlinked_at is None:
        raise GoogleTaken(act=SETTINGS)
    if own is not None and own.unlinked_at is None:
        if own.subject != person.subject:
            raise AnotherGoogle(act=SETTINGS)
        return
    # A new row: what was linked since a change of address goes with it, should that be called off.
    for row in {own, same} - {None}:
        db.session.delete(row)
    db.session.flush()
    _link(user, person.subject, email, is_new=False)


def unlink(user: User) -> bool:
    """Keep Google out of this person's account until they link it again; sign-in by letter stays.

    False when none is linked.
    """
    identity = queries.google_of(user.id)
    if identity is None or identity.unlinked_at is not None:
        return False
    identity.unlinked_at = clock.now()
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
        if standing is not None and standing.unlinked_at is not None:
            raise Unlinked(act=SIGN_IN) from None
        if standing is None or standing.subject != subject:
            raise AnotherGoogle(act=SIGN_IN) from None
        return standing
    audit.record(f"user:{user.id}", "accounts.google_linked", f"user:{user.id}", identity=identity.id)
    if not is_new:
        letters.google_linked(user, identity)
    return identity


def _verified(person: GooglePerson) -> str:
    """The person's address in our spelling. Raises `Unverified`."""
    email = _as_we_spell(person.email)
    if not person.email_is_verified or email is None:
        raise Unverified(act=SIGN_IN)
    return email


def _known_as(subject: str) -> GoogleIdentity | None:
    return db.session.scalar(sa.select(GoogleIdentity).where(GoogleIdentity.subject == subject))


def _as_we_spell(email: str) -> str | None:
    """The spelling that sign-in by letter would have of this address; None for what is none."""
    try:
        return str(validate_email(email, check_deliverability=False).normalized)
    except EmailNotValidError:
        return None


def _fit(name: str) -> str:
    """The name Google has, as far as one may be called so here."""
    return "".join(character for character in name if character.isprintable()).strip()[:100]
