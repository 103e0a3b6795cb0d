"""Onboarding: from request values to a name of the right shape and two boxes ticked."""

from __future__ import annotations

import re

from flask_wtf import FlaskForm
from wtforms import BooleanField, HiddenField, StringField, SubmitField
from wtforms.validators import DataRequired, InputRequired, Length, Regexp, ValidationError

from sts_app.provisioning.look_alikes import look_alikes

SHORTEST_NAME = 3
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


def shape_fault(name: str) -> str | None:
    """Why this cannot be a TradingView name, for the person who typed it; None when it can."""
    if re.fullmatch(NAME_SHAPE, name):
        return None
    bars = [sentence for sentence in look_alikes(name) if "vertical bar" in sentence]
    return " ".join(["A TradingView name has 3 to 30 letters, digits, hyphens or underscores.", *bars])


def _has_shape(form: FlaskForm, field: StringField) -> None:
    fault = shape_fault(field.data)
    if fault is not None:
        raise ValidationError(fault)


class OnboardingForm(FlaskForm):  # type: ignore[misc]  # flask-wtf carries no types
    """Who somebody is at TradingView. The two boxes are left out for who has accepted the texts as they are."""

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
            _has_shape,
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
    # The button beside a name that TradingView did not know: what was remembered of it is asked for anew.
    again = SubmitField("I have corrected it at TradingView, ask again")
    next = HiddenField()
    # The version of the texts that stood beside the boxes.
    texts = HiddenField()

    def leave_out_boxes(self) -> None:
        """For who has accepted this version already."""
        del self.terms, self.disclaimer

    @property
    def asks_texts(self) -> bool:
        return "terms" in self
