"""A sample of each letter that accounts writes."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from sts_app.accounts import letters
from sts_app.accounts.models import EmailChange, GoogleIdentity, LoginToken, User
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.emails.samples import Given, Sample, given

ADDRESS = "anna.sample@customers.example"


def customer() -> User:
    """The customer of every sample, put into the transaction of whoever looks."""
    known = db.session.scalar(sa.select(User).where(sa.func.lower(User.email) == ADDRESS))
    user = known or User(email=ADDRESS, name="Anna Sample")
    db.session.add(user)
    db.session.flush()
    return user


NEW_ADDRESS = "anna@new-mail.example"
# As long as a signed link is.
LINK = "ImV4YW1wbGUtb25seS1vcGVucy1ub3RoaW5nLWFuZC1uZXZlci1kaWQi.aSBx7A.this-link-opens-nothing"


def _sign_in() -> Given:
    return given(LoginToken(id=7, email=ADDRESS), link=LINK, code="482913")


def changed() -> EmailChange:
    now = clock.now()
    return EmailChange(
        id=7,
        user_id=customer().id,
        old_email=ADDRESS,
        new_email=NEW_ADDRESS,
        expires_at=now + timedelta(days=1),
        confirmed_at=now,
        call_off_until=now + timedelta(days=7),
    )


def _linked() -> Given:
    return given(customer(), GoogleIdentity(id=7, email=ADDRESS))


SAMPLES = (
    Sample("sign-in", "Somebody asks for a sign-in link", letters.sign_in, _sign_in),
    Sample("welcome", "An account is new", letters.welcome, lambda: given(customer())),
    Sample(
        "email-change",
        "Somebody wants another address: to the new one",
        letters.confirm_address,
        lambda: given(changed(), link=LINK),
    ),
    Sample(
        "email-change-taken",
        "The address they want has an account",
        letters.address_taken,
        lambda: given(changed()),
    ),
    Sample(
        "email-changed",
        "The address has changed: to the old one",
        letters.address_changed,
        lambda: given(changed(), link=LINK),
    ),
    Sample(
        "email-change-called-off",
        "The change was taken back: to the old address",
        letters.address_back,
        lambda: given(changed(), was_leaving=False),
    ),
    Sample(
        "email-change-called-off-leaving",
        "The same, where somebody had asked for the account to be erased",
        letters.address_back,
        lambda: given(changed(), was_leaving=True),
    ),
    Sample(
        "email-change-undone",
        "The change was taken back: to the new address",
        letters.address_gone,
        lambda: given(changed(), NEW_ADDRESS),
    ),
    Sample("google-linked", "Somebody signs in with Google for the first time", letters.google_linked, _linked),
)
