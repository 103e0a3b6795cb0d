import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup

from sts_app.catalog.models import Strategy
from sts_app.catalog.seed import STRATEGIES
from sts_app.catalog.services import seed_catalog
from sts_app.catalog.teaching import NOTES


@pytest.fixture
def page(app, db):
    seed_catalog("price_abc")
    return lambda slug: BeautifulSoup(app.test_client().get(f"/strategies/{slug}").text, "html.parser").main


def test_every_style_of_the_seed_has_its_notes():
    assert {strategy.style for strategy in STRATEGIES} == set(NOTES)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.slug)
def test_a_page_teaches_the_method_its_weakness_and_what_it_is_not(page, strategy):
    main = page(strategy.slug)
    notes = NOTES[strategy.style]

    assert [head.text for head in main.select("article h2")] == [
        "When it works",
        "What it looks for",
        "How it works",
        "Features",
        "Where it is weak",
        "What it is not",
        "Suited to",
        "Less suited to",
        "What you need",
    ]
    for words in (notes.idea, notes.weakness, notes.not_for, *notes.is_not, strategy.methodology, strategy.best_for):
        assert words in main.text
    assert "places no orders" in main.text


def test_the_drawing_of_the_method_is_told_in_words_and_called_a_drawing(page):
    figure = page("nq-breakout-pro").select_one(".drawing--method")

    assert figure.svg["role"] == "img"
    assert figure.svg["aria-label"] == NOTES["breakout"].drawing
    assert "not of a trade that took place" in figure.figcaption.text


def test_the_session_is_drawn_in_eastern_time_and_says_so_without_script(page):
    figure = page("nq-power-hour").select_one(".day--one")

    assert "15:00\u201116:00 ET" in figure.text
    assert figure.select_one("[data-zone]").text == "Eastern Time (New York)"
    assert figure.select_one(".local").text in ("19:00\u201320:00 UTC", "20:00\u201321:00 UTC")
    [piece] = figure.select("rect[data-piece]")
    assert (piece["x"], piece["width"]) == ("62.5%", "4.167%")


def test_a_part_of_the_day_that_is_only_named_says_its_usual_hours(page):
    assert "usually 4:00\u201311:30 ET" in " ".join(page("nq-breakout-pro").select_one(".day--one").text.split())


def test_a_session_without_a_time_in_it_is_shown_in_words_alone(page, db):
    page("nq-power-hour")
    db.session.execute(sa.update(Strategy).where(Strategy.slug == "nq-power-hour").values(session="When news comes"))
    main = page("nq-power-hour")

    assert "When news comes" in main.select_one(".day--one").text
    assert not main.select(".day--one .band")


def test_a_style_that_nobody_has_written_about_has_a_page_without_notes(page, db):
    page("nq-power-hour")
    db.session.execute(sa.update(Strategy).where(Strategy.slug == "nq-power-hour").values(style="arbitrage"))
    main = page("nq-power-hour")

    assert "Where it is weak" not in main.text
    assert not main.select(".drawing--method")
    assert main.h1.text == "NQ Power Hour"
