"""The declaration to withdraw from a purchase: who withdraws."""

from __future__ import annotations

from flask_wtf import FlaskForm
from wtforms import StringField
from wtforms.validators import DataRequired, Length, Regexp


def _stripped(value: str | None) -> str | None:
    return value.strip() if value else value


class WithdrawalForm(FlaskForm):  # type: ignore[misc]  # flask-wtf carries no types
    name = StringField(
        "Your name",
        filters=[_stripped],
        validators=[
            DataRequired("Please write your name: it says who withdraws."),
            Length(max=100, message="Please keep it under 100 characters."),
            Regexp(r"^[^\x00-\x1f\x7f]*$", message="A name has no control characters."),
        ],
    )
