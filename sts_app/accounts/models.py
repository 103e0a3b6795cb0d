"""People, the ways they sign in, their sessions, and changes of their address."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from flask_login import UserMixin
from sqlalchemy.orm import Mapped, mapped_column

from sts_app.core.db import Base, Row, text_enum

# The texts a customer agrees to: terms, disclaimer, privacy, refunds. A new wording is a new date.
TEXTS_VERSION = "2026-11-21"


class Role(StrEnum):
    USER = "USER"
    ADMIN = "ADMIN"


class User(Row, UserMixin, Base):  # type: ignore[misc]  # flask-login carries no types
    """A person. `email` is stored as typed and unique ignoring case."""

    __tablename__ = "users"
    __table_args__ = (
        text_enum(*Role, name="known_role"),
        sa.Index("uq_users_email_lower", sa.func.lower(sa.text("email")), unique=True),
    )

    email: Mapped[str]
    name: Mapped[str] = mapped_column(default="")
    role: Mapped[str] = mapped_column(default=Role.USER)
    texts_version: Mapped[str | None]
    texts_accepted_at: Mapped[datetime | None]
    last_sign_in_at: Mapped[datetime | None]
    # Since when this person wants to be erased, and nothing can be bought; blank again when they change their mind.
    leaving_at: Mapped[datetime | None]
    # Since when nobody can sign in to this account, because it is being erased or is.
    closed_at: Mapped[datetime | None]
    # Since when nothing here says who this was.
    erased_at: Mapped[datetime | None]

    # The secret of the session this person is here with; set by `accounts.sessions`, never stored.
    session_secret: str = ""

    @property
    def is_staff(self) -> bool:
        return self.role == Role.ADMIN

    def get_id(self) -> str:
        """What flask-login keeps in the cookie: the session, not the person, so that it can be revoked."""
        return self.session_secret


class LoginToken(Row, Base):
    """One sign-in letter: a link and a code, either of which works once within its time.

    Only digests are stored. `browser_digest` names the browser that asked, which may skip the
    *Continue* button that protects the link from mail scanners.
    """

    __tablename__ = "login_token"
    __table_args__ = (sa.UniqueConstraint("link_digest"),)

    email: Mapped[str]
    link_digest: Mapped[str]
    code_digest: Mapped[str]
    browser_digest: Mapped[str | None]
    next_path: Mapped[str | None]
    remember: Mapped[bool] = mapped_column(default=False)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    wrong_tries: Mapped[int] = mapped_column(default=0)

    @property
    def letter_key(self) -> str:
        """What its letter is stored under. A link that staff printed has none."""
        return f"sign-in:{self.id}"


class UserSession(Row, Base):
    """One browser that is signed in; revoked by setting `revoked_at`.

    `device` is the browser and its system in words, and nothing else of what the browser says of itself. `way` is
    how its person got in. `seen_at` is moved once an hour at most.
    """

    __tablename__ = "user_session"
    __table_args__ = (sa.UniqueConstraint("digest"),)

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    digest: Mapped[str]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    device: Mapped[str] = mapped_column(default="", server_default="")  # code before these columns leaves them out
    way: Mapped[str] = mapped_column(default="", server_default="")
    seen_at: Mapped[datetime | None]


class GoogleIdentity(Row, Base):
    """The Google account by which a person may sign in, or may not any more since `unlinked_at`.

    `subject` is Google's lasting name for it (the claim `sub`), whatever becomes of its e-mail address. One that was
    unlinked is remembered, because its address alone would link it again.
    """

    __tablename__ = "google_identity"
    __table_args__ = (sa.UniqueConstraint("subject"), sa.UniqueConstraint("user_id"))

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    subject: Mapped[str]
    email: Mapped[str]
    last_used_at: Mapped[datetime | None]
    unlinked_at: Mapped[datetime | None]


class EmailChange(Row, Base):
    """A wish to have another e-mail address, and what became of it.

    It waits for the link sent to the new address (`digest`) until `expires_at`. Once `confirmed_at` is set, the link
    sent to the old address (`call_off_digest`) takes it back until `call_off_until`, and the old address is nobody
    else's for as long. `ended_at` ends either link: dropped, replaced by another wish, or called off.
    """

    __tablename__ = "email_change"
    __table_args__ = (
        sa.UniqueConstraint("digest"),
        sa.UniqueConstraint("call_off_digest"),
        sa.CheckConstraint(
            "(confirmed_at IS NULL) = (call_off_until IS NULL) AND (confirmed_at IS NULL) = (call_off_digest IS NULL)",
            name="can_be_called_off_once_confirmed",
        ),
        sa.CheckConstraint("called_off_at IS NULL OR ended_at IS NOT NULL", name="ended_when_called_off"),
        sa.Index("ix_email_change_old_email_lower", sa.func.lower(sa.text("old_email"))),
        # What was confirmed or called off in the last days is looked for every minute.
        sa.Index(
            "ix_email_change_call_off_until",
            "call_off_until",
            postgresql_where=sa.text("call_off_until IS NOT NULL"),
        ),
    )

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    old_email: Mapped[str]
    new_email: Mapped[str]
    digest: Mapped[str]
    expires_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]
    call_off_digest: Mapped[str | None]
    call_off_until: Mapped[datetime | None]
    called_off_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class HeldForm(Row, Base):
    """What somebody had typed when the store asked who is there: kept encrypted for an hour, one for each person.

    `digest` names the browser it was typed in, which alone has it back.
    """

    __tablename__ = "held_form"
    __table_args__ = (sa.UniqueConstraint("user_id"),)

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"))
    digest: Mapped[str]
    path: Mapped[str]
    sealed: Mapped[str]
    expires_at: Mapped[datetime]


class Visit(Base):
    """When a person was last on their dashboard, so that it can say what changed meanwhile; one for each person.

    `seen_at` moves with every look. `news_since` is the last look of the visit before this one, None in the first.
    """

    __tablename__ = "visit"

    user_id: Mapped[int] = mapped_column(
        sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    seen_at: Mapped[datetime]
    news_since: Mapped[datetime | None]
