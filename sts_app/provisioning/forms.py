"""Onboarding: from request values to a name of the right shape and two boxes ticked."""

from __future__ import annotations

import re

from flask_wtf import FlaskForm
from wtforms import BooleanField, HiddenField, StringField
from wtforms.validators import DataRequired, InputRequired, Length, Regexp

NAME_SHAPE = r"^[A-Za-z0-9_-]{3,30}$"

# Where TradingView shows a person's profile, in any of its languages.
PROFILE = re.compile(r"(?:https?://)?(?:[a-z]{2,3}\.)?tradingview\.com/u/([^/?#]+)(?:[/?#].*)?", re.I)


def _stripped(value: str | None) -> str | None:
    return value.strip() if value else value


def name_in(value: str | None) -> str | None:
    """The name in what people paste for one: `@name`, or the address of a profile. Anything else stays as it is."""
    if not value:
        return value
    value = value.strip()
    profile = PROFILE.fullmatch(value)
    return (profile[1] if profile else value).removeprefix("@")


class OnboardingForm(FlaskForm):  # type: ignore[misc]  # flask-wtf carries no types
    name = StringField(
        "Your name",
        filters=[_stripped],
        validators=[
            DataRequired("Please tell us what to call you."),
            Length(max=100, message="Please keep it under 100 characters."),
            Regexp(r"^[^\x00-\x1f\x7f]*$", message="A name has no control characters."),
        ],
    )
    tradingview_name = StringField(
        "TradingView name",
        filters=[name_in],
        validators=[
            DataRequired("Please enter your TradingView name."),
            Regexp(NAME_SHAPE, message="A TradingView name has 3 to 30 letters, digits, hyphens or underscores."),
        ],
    )
    terms = BooleanField(
        "I have read and accept the terms and the refund policy. All sales are final.",
        validators=[InputRequired("Please accept the terms to go on.")],
    )
    disclaimer = BooleanField(
        "I have read the risk disclaimer. Trading futures can lose more than I put in.",
        validators=[InputRequired("Please confirm that you have read the risk disclaimer.")],
    )
    next = HiddenField()
