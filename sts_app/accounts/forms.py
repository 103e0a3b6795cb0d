"""From request values to a checked address, code or name."""

from __future__ import annotations

from email_validator import EmailNotValidError, validate_email
from flask_wtf import FlaskForm
from wtforms import BooleanField, EmailField, HiddenField, StringField
from wtforms.validators import DataRequired, Email, Length, Regexp, ValidationError


def _stripped(value: str | None) -> str | None:
    return value.strip() if value else value


def _normal(value: str | None) -> str | None:
    """One spelling of an address that can be written in several; what is no address is left to the validators."""
    try:
        return str(validate_email(value or "", check_deliverability=False).normalized)
    except EmailNotValidError:
        return value


_ADDRESS_RULES = (
    DataRequired("Please enter your e-mail address."),
    Length(max=254, message="That is longer than an e-mail address can be."),
    Email("That does not look like an e-mail address. Please check it."),
)


class SignInForm(FlaskForm):  # type: ignore[misc]  # flask-wtf carries no types
    email = EmailField("E-mail address", filters=[_stripped, _normal], validators=_ADDRESS_RULES)
    remember = BooleanField("Keep me signed in on this device for 30 days")
    next = HiddenField()


class CodeForm(FlaskForm):  # type: ignore[misc]  # see above
    code = StringField(
        "Six-digit code",
        filters=[lambda value: value.replace(" ", "") if value else value],
        validators=[
            DataRequired("Please enter the code from the letter."),
            Regexp(r"^\d{6}$", message="The code has six digits."),
        ],
    )


class NameForm(FlaskForm):  # type: ignore[misc]  # see above
    name = StringField(
        "Your name",
        filters=[_stripped],
        validators=[
            DataRequired("Please tell us what to call you."),
            Length(max=100, message="Please keep it under 100 characters."),
            Regexp(r"^[^\x00-\x1f\x7f]*$", message="A name has no control characters."),
        ],
    )


class NewAddressForm(FlaskForm):  # type: ignore[misc]  # see above
    """`present` is the address that the person has, which is no new one."""

    email = EmailField("New e-mail address", filters=[_stripped, _normal], validators=_ADDRESS_RULES)

    def __init__(self, *args: object, present: str, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._present = present

    def validate_email(self, field: EmailField) -> None:
        """Raises ValidationError for the address that stands already."""
        if field.data.lower() == self._present.lower():
            raise ValidationError("That is the address you have already.")
