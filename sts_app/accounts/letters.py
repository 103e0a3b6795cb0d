"""The letters accounts writes."""

from __future__ import annotations

from flask import current_app

from sts_app.accounts.models import EmailChange, GoogleIdentity, LoginToken, User
from sts_app.core.money import as_moment
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


def confirm_address(change: EmailChange, *, link: str) -> None:
    """To the new address: the link that makes it the account's."""
    emails.post(
        key=f"email-change:{change.id}",
        kind="email_change",
        to=change.new_email,
        user_id=change.user_id,
        subject=f"Confirm your new address for {current_app.config['STS'].app_name}",
        template="accounts/letters/confirm_address",
        context={
            "link": address_of("accounts.confirm_email", link=link),
            "old": _hidden(change.old_email),
            "until": as_moment(change.expires_at),
        },
        secret=True,
        need="asked",
    )


def address_taken(change: EmailChange) -> None:
    """To a new address that has an account already: that it stays as it is."""
    emails.post(
        key=f"email-change:{change.id}",
        kind="email_change_taken",
        to=change.new_email,
        subject="This address has an account already",
        template="accounts/letters/address_taken",
        context={"link": address_of("accounts.sign_in"), "address": change.new_email},
    )


def address_changed(change: EmailChange, *, link: str) -> None:
    """To the old address: that another has taken its place, and for how long it can be taken back."""
    assert change.call_off_until is not None
    emails.post(
        key=f"email-changed:{change.id}",
        kind="email_changed",
        to=change.old_email,
        user_id=change.user_id,
        subject=f"The address of your account at {current_app.config['STS'].app_name} was changed",
        template="accounts/letters/address_changed",
        context={
            "link": address_of("accounts.call_off_email", link=link),
            "old": change.old_email,
            "new": _hidden(change.new_email),
            "until": as_moment(change.call_off_until),
        },
        secret=True,
    )


def address_back(change: EmailChange, *, was_leaving: bool) -> None:
    """To the old address: that it is the account's again, and what to look at now.

    `was_leaving` says that somebody had asked for the account to be erased.
    """
    emails.post(
        key=f"email-change-called-off:{change.id}",
        kind="email_change_called_off",
        to=change.old_email,
        user_id=change.user_id,
        subject="Your account has its address back",
        template="accounts/letters/address_back",
        context={
            "link": address_of("accounts.settings"),
            "address": change.old_email,
            "was_leaving": was_leaving,
        },
    )


def address_gone(change: EmailChange, address: str) -> None:
    """To `address`, which the account had until the change was called off: that it is not the account's any more."""
    emails.post(
        key=f"email-change-undone:{change.id}",
        kind="email_change_undone",
        to=address,
        user_id=change.user_id,
        subject="A change of address was taken back",
        template="accounts/letters/address_gone",
        context={"address": address, "link": address_of("support.contact")},
    )


def google_linked(user: User, identity: GoogleIdentity) -> None:
    """To somebody who has signed in with Google for the first time: that it works now, and how to end that."""
    emails.post(
        key=f"google-linked:{identity.id}",
        kind="google_linked",
        to=user.email,
        user_id=user.id,
        subject="You can sign in with Google now",
        template="accounts/letters/google_linked",
        context={"link": address_of("accounts.settings"), "address": identity.email},
    )


def _hidden(email: str) -> str:
    """Enough of an address to be known by whoever has it, for a mailbox that may be somebody else's by now."""
    name, _, host = email.rpartition("@")
    return f"{name[:1]}...@{host}"
