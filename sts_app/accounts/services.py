"""The verbs of accounts: ask for a sign-in letter, sign in with it, end sessions, agree to the texts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import aliased

from sts_app.accounts import letters, privacy, queries
from sts_app.accounts.models import (
    TEXTS_VERSION,
    EmailChange,
    HeldForm,
    LoginToken,
    Role,
    User,
    UserSession,
)
from sts_app.audit import services as audit
from sts_app.core import clock, tokens
from sts_app.core.db import claim, db
from sts_app.core.errors import NotThere, Refusal
from sts_app.core.money import as_moment
from sts_app.emails import services as emails

WRONG_TRIES = 5
WRONG_TRIES_OF_ADDRESS = 20
TRIES_ARE_COUNTED = timedelta(hours=24)
LINK_PURPOSE = "sign-in-link"
# How a person got in, as `UserSession.way` has it.
BY_LINK, BY_CODE, BY_GOOGLE = "link", "code", "google"
KEEP_ENDED = timedelta(days=1)


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


class StaffBySetting(Refusal):
    status = 409
    code = "STAFF_BY_SETTING"
    sentence = (
        "This address stands in ADMIN_EMAIL, so it would be staff again at its next sign-in. Take it out there and "
        "restart the store first."
    )


class AddressMoved(Refusal):
    """Raised for an address that an account had until lately, while the change can still be called off."""

    status = 409
    code = "ADDRESS_MOVED"
    title = "This address was changed"

    def __init__(self, change: EmailChange) -> None:
        assert change.confirmed_at is not None
        assert change.call_off_until is not None
        super().__init__(
            f"Your account has had another address since {as_moment(change.confirmed_at)}: sign in with that one. "
            "If it was not you who changed it, open the letter that we sent here then; its link takes the change "
            f"back until {as_moment(change.call_off_until)}."
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


def sign_in_with_link(link: str, *, device: str = "") -> SignedIn:
    """Use a link, once. Of two clicks at the same moment one wins; the other gets `LinkOver`.

    `device` is the browser in words. Raises `AddressMoved` too.
    """
    token = peek_link(link)
    return _sign_in(token, way=BY_LINK, device=device)


def sign_in_with_code(token_id: int, code: str, *, device: str = "") -> SignedIn | None:
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
    return _sign_in(token, way=BY_CODE, device=device)


def welcome_in(
    user: User, *, way: str, device: str, remember: bool, next_path: str | None, is_new: bool = False
) -> SignedIn:
    """Begin a session for somebody who has shown who they are in `way`, and greet them if the account is new."""
    now = clock.now()
    user.last_sign_in_at = now
    secret = tokens.new_secret()
    days = current_app.config["STS"].session_days if remember else 1
    db.session.add(
        UserSession(
            user_id=user.id,
            digest=tokens.digest("session", secret),
            expires_at=now + timedelta(days=days),
            device=device,
            way=way,
            seen_at=now,
        )
    )
    audit.record(f"user:{user.id}", "accounts.signed_in", f"user:{user.id}", new=is_new, way=way)
    if is_new:
        letters.welcome(user)
    return SignedIn(user, secret, next_path, remember, is_new)


def sign_out(secret: str) -> None:
    """End one session. Quiet when it has ended already."""
    db.session.execute(
        sa.update(UserSession)
        .where(UserSession.digest.in_(tokens.digests("session", secret)), UserSession.revoked_at.is_(None))
        .values(revoked_at=clock.now())
    )


def end_session(user: User, session_id: int) -> bool:
    """End one of this person's sessions; its browser is out at its next request. Quiet when it has ended already.

    True when it is the one they are here with. Raises `NotThere` for a session of somebody else.
    """
    found = db.session.get(UserSession, session_id)
    if found is None or found.user_id != user.id:
        raise NotThere
    ended = sa.update(UserSession).where(UserSession.id == session_id, UserSession.revoked_at.is_(None))
    if claim(ended.values(revoked_at=clock.now())):
        audit.record(f"user:{user.id}", "accounts.session_ended", f"user:{user.id}", session=session_id)
    return found.digest in tokens.digests("session", user.session_secret)


def end_sessions(user: User, *, actor: str, but: str | None = None) -> int:
    """End every session of this person, but for the one with the secret `but`. Returns how many ended.

    Sign-in letters that are on their way end too, and a change of address that waits for its link: whoever else reads
    them, or asked for it, shall not come back by one.
    """
    now = clock.now()
    privacy.locked(user.id)  # as `addresses.confirm` does: of the two, the second sees what the first has done
    statement = sa.update(UserSession).where(UserSession.user_id == user.id, UserSession.revoked_at.is_(None))
    if but is not None:
        statement = statement.where(UserSession.digest.not_in(tokens.digests("session", but)))
    ended = db.session.execute(statement.values(revoked_at=now).execution_options(synchronize_session=False))
    db.session.execute(
        sa.update(LoginToken)
        .where(sa.func.lower(LoginToken.email) == sa.func.lower(sa.literal(user.email)), LoginToken.used_at.is_(None))
        .values(used_at=now)
        .execution_options(synchronize_session=False)
    )
    many = int(ended.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
    audit.record(actor, "accounts.sessions_ended", f"user:{user.id}", ended=many, kept_own=but is not None)
    if drop_change_of(user.id):
        audit.record(actor, "accounts.email_change_dropped", f"user:{user.id}")
    return many


def drop_change_of(user_id: int) -> bool:
    """End the change of address that waits for its link. False when none does."""
    waiting = sa.update(EmailChange).where(
        EmailChange.user_id == user_id, EmailChange.confirmed_at.is_(None), EmailChange.ended_at.is_(None)
    )
    dropped = db.session.execute(waiting.values(ended_at=clock.now()).execution_options(synchronize_session=False))
    return bool(dropped.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult


def rename(user: User, name: str) -> None:
    """Call this person by another name. Quiet when it is the same."""
    if user.name == name:
        return
    user.name = name
    audit.record(f"user:{user.id}", "accounts.name_changed", f"user:{user.id}")


def tidy() -> None:
    """Delete a day after their end: sign-in letters, sessions, and changes of address."""
    before = clock.now() - KEEP_ENDED
    db.session.execute(sa.delete(LoginToken).where(LoginToken.expires_at < before))
    db.session.execute(sa.delete(UserSession).where(UserSession.expires_at < before))
    last_use = sa.func.greatest(EmailChange.expires_at, EmailChange.call_off_until)
    db.session.execute(sa.delete(EmailChange).where(last_use < before))


def drop_held() -> None:
    """Delete the forms that were held for their hour."""
    over = sa.delete(HeldForm).where(HeldForm.expires_at <= clock.now())
    db.session.execute(over.execution_options(synchronize_session=False))


def accept_texts(user: User) -> None:
    """Note which wording of terms and disclaimer this person agreed to, and when."""
    if user.texts_version == TEXTS_VERSION:
        return
    user.texts_version = TEXTS_VERSION
    user.texts_accepted_at = clock.now()
    audit.record(f"user:{user.id}", "accounts.texts_accepted", f"user:{user.id}", version=TEXTS_VERSION)


def make_admin(email: str, *, actor: str) -> User:
    """Give `email` the admin role, creating the account if needed. Safe to call twice. Raises `AddressMoved`."""
    user, _ = account_for(email)
    if user.role != Role.ADMIN:
        user.role = Role.ADMIN
        db.session.flush()
        audit.record(actor, "accounts.admin_granted", f"user:{user.id}")
    return user


def revoke_admin(email: str, *, actor: str) -> User:
    """Make somebody of the staff a customer again and sign them out everywhere. Audited.

    Raises `NotThere` when nobody on the staff has this address, and `StaffBySetting`.
    """
    known = user_by_email(email)
    if known is None or not known.is_staff:
        raise NotThere("No member of the staff has this address.")
    user = privacy.locked(known.id)
    if user.email.lower() in {address.lower() for address in current_app.config["STS"].admin_emails}:
        raise StaffBySetting(cause=f"user:{user.id}")
    user.role = Role.USER
    db.session.flush()
    audit.record(actor, "accounts.admin_revoked", f"user:{user.id}")
    end_sessions(user, actor=actor)
    return user


def user_by_email(email: str) -> User | None:
    """The person with this address, however it is capitalised."""
    return db.session.scalar(sa.select(User).where(queries.has_address(email)))


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


def _sign_in(token: LoginToken, *, way: str, device: str) -> SignedIn:
    used = sa.update(LoginToken).where(
        LoginToken.id == token.id, LoginToken.used_at.is_(None), LoginToken.wrong_tries < WRONG_TRIES
    )
    if not claim(used.values(used_at=clock.now())):
        raise LinkOver
    user, is_new = account_for(token.email)
    emails.arrived(token.letter_key)
    return welcome_in(user, way=way, device=device, remember=token.remember, next_path=token.next_path, is_new=is_new)


def account_for(email: str) -> tuple[User, bool]:
    """The account of an address that somebody has shown to be theirs, and whether it was made now.

    Two at once make one. Raises `AddressMoved` for an address that another account may still take back.
    """
    settings = current_app.config["STS"]
    is_admin = email.lower() in {address.lower() for address in settings.admin_emails}
    made = db.session.scalar(
        insert(User)
        .values(email=email, name="", role=Role.ADMIN if is_admin else Role.USER, created_at=clock.now())
        .on_conflict_do_nothing()
        .returning(User.id)
    )
    # Asked after the insert, which waits for whoever is giving the address up at this moment.
    if made is not None and (change := queries.moved_from(email, clock.now())) is not None:
        raise AddressMoved(change)
    user = user_by_email(email)
    assert user is not None
    privacy.refuse_closed(user)
    if is_admin and (made is not None or user.role != Role.ADMIN):
        user.role = Role.ADMIN
        audit.record(audit.SYSTEM, "accounts.admin_granted", f"user:{user.id}", because="ADMIN_EMAIL")
    return user, made is not None
