"""The verbs of accounts: ask for a sign-in letter, sign in with it, agree to the texts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from sts_app.accounts import letters
from sts_app.accounts.models import TEXTS_VERSION, LoginToken, Role, User, UserSession
from sts_app.audit import services as audit
from sts_app.core import clock, tokens
from sts_app.core.db import claim, db
from sts_app.core.errors import NotThere, Refusal
from sts_app.emails import services as emails

WRONG_TRIES = 5
WRONG_TRIES_OF_ADDRESS = 20
TRIES_ARE_COUNTED = timedelta(hours=24)
LINK_PURPOSE = "sign-in-link"


class LinkOver(Refusal):
    """One sentence for used, expired and unknown links: which it was is nobody's business."""

    status = 410
    code = "LINK_EXPIRED"
    sentence = "This sign-in link has been used or is too old. Ask for a new one; it takes a minute."


class CodesOver(Refusal):
    """Too many wrong codes for one address, over all its letters: six digits must not be guessed bit by bit."""

    status = 429
    code = "CODES_EXHAUSTED"
    sentence = (
        "Too many wrong codes were typed for this address today, so codes do not work until tomorrow. "
        "The link in the letter still does: ask for a new letter and open it on this device."
    )


@dataclass(frozen=True)
class SignedIn:
    """What a sign-in leads to. `is_new` is true for the visit that made the account."""

    user: User
    secret: str
    next_path: str | None
    remember: bool
    is_new: bool


def ask_for_link(email: str, *, browser: str | None, next_path: str | None, remember: bool) -> LoginToken:
    """Write a sign-in letter to `email`, whether or not we know the address: both get the same answer."""
    token, link, code = _new_token(email, browser=browser, next_path=next_path, remember=remember)
    letters.sign_in(token, link=link, code=code)
    return token


def link_for_staff(email: str, *, actor: str) -> str:
    """A sign-in link for a member of staff without a letter (break-glass), audited.

    Raises `NotThere` when nobody on the staff has this address.
    """
    user = user_by_email(email)
    if user is None or not user.is_staff:
        raise NotThere("No member of the staff has this address; `sts admin grant` makes one.")
    token, link, _code = _new_token(user.email, browser=None, next_path="/admin", remember=False)
    audit.record(actor, "accounts.staff_link_printed", f"user:{user.id}", login_token=token.id)
    return link


def peek_link(link: str) -> LoginToken:
    """The token behind a link while it is still good; raises `LinkOver`."""
    max_age = current_app.config["STS"].magic_link_max_age
    try:
        secret = tokens.read(LINK_PURPOSE, link, max_age=max_age)
    except (tokens.TokenExpired, tokens.TokenInvalid):
        raise LinkOver from None
    if not isinstance(secret, str):
        raise LinkOver
    found = db.session.scalar(
        sa.select(LoginToken).where(LoginToken.link_digest.in_(tokens.digests(LINK_PURPOSE, secret)))
    )
    if found is None or not _is_open(found, clock.now()):
        raise LinkOver
    return found


def sign_in_with_link(link: str) -> SignedIn:
    """Use a link, once. Of two clicks at the same moment one wins; the other gets `LinkOver`."""
    token = peek_link(link)
    return _sign_in(token)


def sign_in_with_code(token_id: int, code: str) -> SignedIn | None:
    """Use the code of a letter. None when it is wrong; the fifth wrong one ends link and code alike.

    The wrong try is a fact that must be kept, so it is returned and not raised. Raises `LinkOver`, and
    `CodesOver` after 20 wrong tries for this address within a day, when only links work.
    """
    now = clock.now()
    letters_of_address = _lock_letters_of_same_address(token_id, now - TRIES_ARE_COUNTED)
    token = letters_of_address.get(token_id)
    if token is None or not _is_open(token, now):
        raise LinkOver
    if sum(letter.wrong_tries for letter in letters_of_address.values()) >= WRONG_TRIES_OF_ADDRESS:
        raise CodesOver
    if not tokens.matches("sign-in-code", f"{token.id}:{code}", token.code_digest):
        token.wrong_tries += 1
        return None
    return _sign_in(token)


def sign_out(secret: str) -> None:
    """End one session. Quiet when it has ended already."""
    db.session.execute(
        sa.update(UserSession)
        .where(UserSession.digest.in_(tokens.digests("session", secret)), UserSession.revoked_at.is_(None))
        .values(revoked_at=clock.now())
    )


def accept_texts(user: User) -> None:
    """Note which wording of terms and disclaimer this person agreed to, and when."""
    if user.texts_version == TEXTS_VERSION:
        return
    user.texts_version = TEXTS_VERSION
    user.texts_accepted_at = clock.now()
    audit.record(f"user:{user.id}", "accounts.texts_accepted", f"user:{user.id}", version=TEXTS_VERSION)


def make_admin(email: str, *, actor: str) -> User:
    """Give `email` the admin role, creating the account if needed. Safe to call twice."""
    user, _ = _user_for(email)
    if user.role != Role.ADMIN:
        user.role = Role.ADMIN
        db.session.flush()
        audit.record(actor, "accounts.admin_granted", f"user:{user.id}")
    return user


def user_by_email(email: str) -> User | None:
    """The person with this address, however it is capitalised."""
    # Lowered by the database on both sides, as its index is: Python's idea of lower case is another one.
    return db.session.scalar(sa.select(User).where(sa.func.lower(User.email) == sa.func.lower(sa.literal(email))))


def _new_token(
    email: str, *, browser: str | None, next_path: str | None, remember: bool
) -> tuple[LoginToken, str, str]:
    secret, code = tokens.new_secret(), tokens.new_code()
    max_age = timedelta(seconds=current_app.config["STS"].magic_link_max_age)
    token = LoginToken(
        email=email,
        link_digest=tokens.digest(LINK_PURPOSE, secret),
        code_digest="",
        browser_digest=tokens.digest("sign-in-browser", browser) if browser else None,
        next_path=next_path,
        remember=remember,
        expires_at=clock.now() + max_age,
    )
    db.session.add(token)
    db.session.flush()
    # Bound to its row: six digits alone would collide between letters.
    token.code_digest = tokens.digest("sign-in-code", f"{token.id}:{code}")
    return token, tokens.sign(LINK_PURPOSE, secret), code


def _lock_letters_of_same_address(token_id: int, since: datetime) -> dict[int, LoginToken]:
    """This letter and those to the same address since, so that tries with two of them are counted in turn."""
    this = aliased(LoginToken)
    address = sa.select(sa.func.lower(this.email)).where(this.id == token_id).scalar_subquery()
    found = db.session.scalars(
        sa.select(LoginToken)
        .where(
            sa.or_(
                LoginToken.id == token_id,
                sa.and_(sa.func.lower(LoginToken.email) == address, LoginToken.created_at > since),
            )
        )
        .order_by(LoginToken.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {letter.id: letter for letter in found}


def _is_open(token: LoginToken, now: datetime) -> bool:
    return token.used_at is None and token.expires_at > now and token.wrong_tries < WRONG_TRIES


def _sign_in(token: LoginToken) -> SignedIn:
    now = clock.now()
    used = sa.update(LoginToken).where(
        LoginToken.id == token.id, LoginToken.used_at.is_(None), LoginToken.wrong_tries < WRONG_TRIES
    )
    if not claim(used.values(used_at=now)):
        raise LinkOver
    user, is_new = _user_for(token.email)
    user.last_sign_in_at = now
    secret = tokens.new_secret()
    days = current_app.config["STS"].session_days if token.remember else 1
    db.session.add(
        UserSession(
            user_id=user.id,
            digest=tokens.digest("session", secret),
            expires_at=now + timedelta(days=days),
        )
    )
    audit.record(f"user:{user.id}", "accounts.signed_in", f"user:{user.id}", new=is_new)
    emails.arrived(token.letter_key)
    if is_new:
        letters.welcome(user)
    return SignedIn(user, secret, token.next_path, token.remember, is_new)


def _user_for(email: str) -> tuple[User, bool]:
    """The account of an address, made when there is none; two at once make one."""
    settings = current_app.config["STS"]
    is_admin = email.lower() in {address.lower() for address in settings.admin_emails}
    made = db.session.scalar(
        insert(User)
        .values(email=email, name="", role=Role.ADMIN if is_admin else Role.USER, created_at=clock.now())
        .on_conflict_do_nothing()
        .returning(User.id)
    )
    user = user_by_email(email)
    assert user is not None
    if is_admin and (made is not None or user.role != Role.ADMIN):
        user.role = Role.ADMIN
        audit.record(audit.SYSTEM, "accounts.admin_granted", f"user:{user.id}", because="ADMIN_EMAIL")
    return user, made is not None
