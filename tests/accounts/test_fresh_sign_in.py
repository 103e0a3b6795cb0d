"""A browser that is only remembered must prove who is there before access can be led elsewhere."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sts_app.core.db import db as database
from sts_app.provisioning.models import TradingViewName
from sts_app.provisioning.names import set_name
from tests.accounts.test_sign_in import ask, link
from tests.builders import bob, enter

FORM = {"name": "Alice", "tradingview_name": "somebody_else", "terms": "y", "disclaimer": "y"}


@pytest.fixture
def remembered(client, alice):
    """Alice's browser after it was closed and opened again."""
    enter(client, alice)
    with client.session_transaction() as session:
        session["_fresh"] = False
    return client


def test_a_remembered_browser_reads_its_dashboard(remembered):
    assert remembered.get("/dashboard").status_code == 200


def test_a_remembered_browser_signs_in_again_before_the_name_changes(remembered, alice):
    set_name(alice, "Alice_trades", verified=True)

    page = remembered.get("/onboarding?next=/checkout")
    posted = remembered.post("/onboarding", data=FORM)

    assert page.status_code == posted.status_code == 303
    assert page.location == "/sign-in?next=/onboarding?next%3D/checkout"
    assert database.session.scalars(sa.select(TradingViewName.spelling)).all() == ["Alice_trades"]


def test_the_sign_in_page_asks_a_remembered_person_and_knows_their_address(remembered, alice):
    answer = remembered.get("/sign-in?next=/onboarding")

    assert answer.status_code == 200
    assert f'value="{alice.email}"' in answer.text


def test_a_first_name_needs_no_second_sign_in(remembered):
    assert remembered.get("/onboarding").status_code == 200


def test_a_fresh_sign_in_changes_the_name(client, alice):
    set_name(alice, "Alice_trades", verified=True)
    ask(client, alice.email)
    client.get(link())

    answer = client.post("/onboarding", data=FORM)

    assert answer.status_code == 303
    current = sa.select(TradingViewName.spelling).where(TradingViewName.replaced_at.is_(None))
    assert database.session.scalars(current).all() == ["Somebody_else"]


def test_a_name_refused_leaves_the_name_from_before(client, alice):
    """The page of the refusal is an answer, and answers commit."""
    set_name(bob(), "Somebody_else", verified=True)
    set_name(alice, "Alice_trades", verified=True)
    ask(client, alice.email)
    client.get(link())

    answer = client.post("/onboarding", data=FORM)

    assert answer.status_code == 422
    mine = sa.select(TradingViewName.spelling).where(
        TradingViewName.user_id == alice.id, TradingViewName.replaced_at.is_(None)
    )
    assert database.session.scalars(mine).all() == ["Alice_trades"]
