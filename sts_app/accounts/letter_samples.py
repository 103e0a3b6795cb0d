"""A sample of each letter that accounts writes."""

from __future__ import annotations

import sqlalchemy as sa

from sts_app.accounts import letters
from sts_app.accounts.models import LoginToken, User
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


def _sign_in() -> Given:
    # As long as a signed link is.
    link = "ImV4YW1wbGUtb25seS1vcGVucy1ub3RoaW5nLWFuZC1uZXZlci1kaWQi.aSBx7A.this-link-opens-nothing"
    return given(LoginToken(id=7, email=ADDRESS), link=link, code="482913")


SAMPLES = (
    Sample("sign-in", "Somebody asks for a sign-in link", letters.sign_in, _sign_in),
    Sample("welcome", "An account is new", letters.welcome, lambda: given(customer())),
)
