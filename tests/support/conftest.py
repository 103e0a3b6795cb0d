"""Tickets and pictures for these tests."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from PIL import Image

from sts_app import cli
from sts_app.accounts.models import User
from sts_app.core.db import db as database
from sts_app.support import desk, drafts, services
from sts_app.support.models import SupportTicket, TicketAttachment, TicketMessage
from sts_app.support.pictures import Picture, from_file
from sts_app.support.rules import Category, TicketStatus
from sts_app.support.services import Opening
from tests.builders import alice, enter, in_a_transaction

QUESTION = "The strategies are not listed at TradingView, though the dashboard says Active."


def file_of(kind: str = "PNG", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    """The bytes of a picture as a program of a customer would write them."""
    out = io.BytesIO()
    Image.new("RGB", size, (10, 90, 160)).save(out, kind, **options)
    return out.getvalue()


def picture(size: tuple[int, int] = (64, 48)) -> Picture:
    return from_file("chart.png", file_of(size=size))


def asked(user: User, text: str = QUESTION, **changes: Any) -> SupportTicket:
    """An open ticket of this person."""
    given = {"subject": "Nothing is listed", "text": text, "category": Category.ACCESS} | changes
    nonce = given.pop("nonce", f"form of {text}")
    return in_a_transaction(lambda: services.open_ticket(user, Opening(**given), nonce=nonce))


def wrote(email: str = "stranger@nowhere.example", **changes: Any) -> SupportTicket:
    """A ticket from the contact page."""
    given = {"name": "", "nonce": "a form", "suspected": False} | changes
    opening = Opening("Is it for ES, too?", "I trade ES and wonder whether this works there.", Category.OTHER)
    return in_a_transaction(lambda: services.write_from_outside(opening, email=email, **given))


def replied(ticket: SupportTicket, text: str = "Here is more.", **changes: Any) -> Any:
    """A customer's reply."""
    given = {"actor": f"user:{ticket.user_id}", "owner": f"user:{ticket.user_id}", "nonce": text} | changes
    return in_a_transaction(lambda: services.reply(ticket.id, text, **given))


def pictures() -> list[TicketAttachment]:
    """Every picture there is, in a message or on a form."""
    return list(database.session.scalars(sa.select(TicketAttachment).order_by(TicketAttachment.id)))


def hang(owner: str, nonce: str, *sizes: tuple[int, int], still: Any = ()) -> Any:
    """Hang pictures of these sizes on a form."""
    return in_a_transaction(lambda: drafts.keep(owner, nonce, [picture(size) for size in sizes], still=still))


def answered(ticket: SupportTicket, then: TicketStatus | None = None) -> TicketMessage:
    """An answer of staff."""
    return in_a_transaction(lambda: desk.reply(ticket.id, "We have looked.", actor="user:9", then=then))


@pytest.fixture
def buyer(db: Any) -> User:
    return alice()


@pytest.fixture
def visitor(client: FlaskClient, buyer: User) -> FlaskClient:
    """Alice's browser, signed in."""
    enter(client, buyer)
    return client


@pytest.fixture
def sts(app: Any, db: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command of `sts` in this app; `given` is what is typed into it."""
    monkeypatch.setattr(cli.main, "create_app", lambda: app)

    def sts(*words: str, given: str | None = None) -> Result:
        database.session.commit()
        result = CliRunner().invoke(cli.main, words, input=given)
        database.session.expire_all()
        return result

    return sts
