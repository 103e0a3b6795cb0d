"""The letters accounts writes."""

from __future__ import annotations

from flask import current_app

from sts_app.accounts.models import LoginToken, User
from sts_app.core.web import address_of
from sts_app.emails import services as emails


def sign_in(token: LoginToken, *, link: str, code: str) -> None:
    minutes = current_app.config["STS"].magic_link_max_age // 60
    emails.post(
        key=token.letter_key,
        kind="sign_in",
        to=token.email,
        subject=f"Your sign-in link for {current_app.config['STS'].app_name}",
        template="accounts/letters/sign_in",
        context={"link": address_of("accounts.continue_sign_in", link=link), "code_digits": code, "minutes": minutes},
        secret=True,
        need="asked",
    )


def welcome(user: User) -> None:
    emails.post(
        key=f"welcome:{user.id}",
        kind="welcome",
        to=user.email,
        user_id=user.id,
        subject=f"Welcome to {current_app.config['STS'].app_name}",
        template="accounts/letters/welcome",
        context={"link": address_of("catalog.listing")},
        need="spare",
    )
