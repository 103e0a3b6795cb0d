"""The book of all letters: a sample of each that the store can write, from every room."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from sts_app.accounts import letter_samples as accounts
from sts_app.billing import letter_samples as billing
from sts_app.core.db import rollback
from sts_app.core.errors import NotThere
from sts_app.emails import letter_samples as emails
from sts_app.emails.samples import Letter, Sample
from sts_app.privacy import letter_samples as privacy
from sts_app.provisioning import letter_samples as provisioning
from sts_app.support import letter_samples as support

CHAPTERS: tuple[tuple[str, Sequence[Sample]], ...] = (
    ("Accounts", accounts.SAMPLES),
    ("Access", provisioning.SAMPLES),
    ("Purchases", billing.PURCHASES),
    ("Subscriptions", billing.SUBSCRIPTIONS),
    ("Money that goes back", billing.MONEY_BACK),
    ("Money in trouble", billing.TROUBLE),
    ("Support", support.SAMPLES),
    ("Leaving", privacy.SAMPLES),
    ("Letters about letters", emails.SAMPLES),
)
BOOK = {sample.name: sample for _, samples in CHAPTERS for sample in samples}
DARK = "@media (prefers-color-scheme: dark)"
BOTH = 'content="light dark"'


class Scheme(StrEnum):
    """How a mail program shows a letter: as we say for light or dark, or by turning all colours round itself."""

    LIGHT = "light"
    DARK = "dark"
    INVERTED = "inverted"


def written(name: str) -> list[Letter]:
    """The letters of one occasion, one of each kind. Whatever they needed is rolled back. Raises `NotThere`."""
    sample = BOOK.get(name)
    if sample is None:
        raise NotThere
    try:
        return sample.written()
    finally:
        rollback()


def as_shown(html: str, scheme: Scheme) -> str:
    """The HTML part as a mail program shows it under `scheme`, whatever the browser's own is."""
    if scheme is Scheme.DARK:
        return html.replace(DARK, "@media all").replace(BOTH, 'content="dark"')
    light = html.replace(DARK, "@media not all").replace(BOTH, 'content="light"')
    if scheme is Scheme.LIGHT:
        return light
    return light.replace("<html", '<html style="background-color: #ffffff; filter: invert(1) hue-rotate(180deg)"', 1)
