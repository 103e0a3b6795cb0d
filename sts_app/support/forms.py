"""From request values to a text that fits into a ticket."""

from __future__ import annotations

from email_validator import EmailNotValidError, validate_email
from flask_wtf import FlaskForm
from flask_wtf.file import MultipleFileField
from wtforms import EmailField, HiddenField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, Email, InputRequired, Length, Regexp, ValidationError

from sts_app.support.pictures import ACCEPTED
from sts_app.support.rules import (
    FIRST_MESSAGE_LENGTHS,
    REPLY_LENGTHS,
    SUBJECT_LENGTHS,
    Category,
    fault_of,
    tidy,
)

CATEGORY_WORDS = {
    Category.ACCESS.value: "Access to a strategy",
    Category.BILLING.value: "Payment, invoice or refund",
    Category.TECHNICAL.value: "Using a strategy",
    Category.OTHER.value: "Something else",
}
CATEGORIES = [SelectChoice("", "Please choose"), *(SelectChoice(*each) for each in CATEGORY_WORDS.items())]


class Fits:
    """A text of these lengths that can be read and holds no card number; `lines` allows more than one line."""

    def __init__(self, lengths: tuple[int, int], *, lines: bool) -> None:
        self._lengths, self._lines = lengths, lines
        # No `maxlength`: a browser cuts off what is pasted beyond it, and says nothing.
        self.field_flags = {"required": True}

    def __call__(self, form: FlaskForm, field: StringField) -> None:
        fault = fault_of(field.data, self._lengths, lines=self._lines)
        if fault is not None:
            raise ValidationError(fault)


def _stripped(value: str | None) -> str:
    return (value or "").strip()


def normal_address(value: str | None) -> str:
    """One spelling of an address that can be written in several; what is no address comes back as it is."""
    value = _stripped(value)
    try:
        return str(validate_email(value, check_deliverability=False).normalized)
    except EmailNotValidError:
        return value


class WithPictures(FlaskForm):  # type: ignore[misc]  # flask-wtf carries no types
    pictures = MultipleFileField(
        "Pictures",
        description="Up to three, 2 MB each: PNG, JPEG, WebP or GIF. Please cover what nobody else should see.",
        render_kw={"accept": ACCEPTED},
    )
    # Names this form, so that its pictures wait for it and a second click is known for one.
    nonce = HiddenField()


class TicketForm(WithPictures):
    subject = StringField("Subject", filters=[_stripped], validators=[Fits(SUBJECT_LENGTHS, lines=False)])
    category = SelectField(
        "What is it about?",
        choices=CATEGORIES,
        validators=[InputRequired("Please choose what it is about: it reaches the right person sooner.")],
    )
    about = SelectField("Purchase or strategy", choices=[], validate_choice=False)
    text = TextAreaField(
        "Your message",
        description="What did you do, what did you expect, and what happened instead?",
        filters=[tidy],
        validators=[Fits(FIRST_MESSAGE_LENGTHS, lines=True)],
    )


class ReplyForm(WithPictures):
    text = TextAreaField("Your reply", filters=[tidy], validators=[Fits(REPLY_LENGTHS, lines=True)])


class ContactForm(FlaskForm):  # type: ignore[misc]  # see above
    name = StringField(
        "Your name",
        filters=[_stripped],
        validators=[
            Length(max=100, message="Please keep it under 100 characters."),
            Regexp(r"^[^\x00-\x1f\x7f]*$", message="A name has no control characters."),
        ],
    )
    email = EmailField(
        "E-mail address",
        description="Our answer goes there, and nothing else.",
        filters=[normal_address],
        validators=[
            DataRequired("Please enter your e-mail address."),
            Length(max=254, message="That is longer than an e-mail address can be."),
            Email("That does not look like an e-mail address. Please check it."),
        ],
    )
    category = SelectField(
        "What is it about?",
        choices=CATEGORIES,
        validators=[InputRequired("Please choose what it is about: it reaches the right person sooner.")],
    )
    subject = StringField("Subject", filters=[_stripped], validators=[Fits(SUBJECT_LENGTHS, lines=False)])
    text = TextAreaField(
        "Your message",
        filters=[tidy],
        validators=[Fits(FIRST_MESSAGE_LENGTHS, lines=True)],
    )
    # Programs fill in every field they find; people do not see this one.
    website = StringField("Leave this empty")
    stamp = HiddenField()
