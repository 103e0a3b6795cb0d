"""From request values to words that were typed on purpose."""

from __future__ import annotations

from flask_wtf import FlaskForm
from wtforms import StringField, ValidationError
from wtforms.validators import InputRequired

from sts_app.core.errors import FixInput
from sts_app.privacy import services


class ErasureForm(FlaskForm):  # type: ignore[misc]  # flask-wtf carries no types
    phrase = StringField(
        "Your confirmation", validators=[InputRequired(f"To go on, type these words: {services.PHRASE}")]
    )

    def validate_phrase(self, field: StringField) -> None:
        """The words that are asked for, however they are capitalised and spaced."""
        try:
            services.check_phrase(field.data or "")
        except FixInput as refusal:
            raise ValidationError(refusal.sentence) from None
