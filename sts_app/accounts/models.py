"""People, their sign-in tokens and their sessions."""

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
    """One browser that is signed in; revoked by setting `revoked_at`."""

    __tablename__ = "user_session"
    __table_args__ = (sa.UniqueConstraint("digest"),)

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
    digest: Mapped[str]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
