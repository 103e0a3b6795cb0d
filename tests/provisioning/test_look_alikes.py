"""Which characters are easily mistaken, said in words, and what may have been meant."""

from __future__ import annotations

import string

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from sts_app.provisioning.look_alikes import SKELETON_FROM, SKELETON_TO, look_alikes, skeleton, variants

NAMES = st.text(string.ascii_letters + string.digits + "_-", min_size=3, max_size=30)
TWISTED = st.text("lI1oO0aB", min_size=3, max_size=12)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("xyz", []),
        ("Bob_trader", []),
        ("all", ["The second and third characters are small Ls, not the digit one or a capital i."]),
        ("abl", ["The third character is a small L, not the digit one or a capital i."]),
        ("Ivan", ["The first character is a capital i, not a small L or the digit one."]),
        ("trader1", ["The seventh character is the digit one, not a small L or a capital i."]),
        ("ann|e", ["The fourth character is a vertical bar, not a small L, the digit one or a capital i."]),
        ("b0b", ["The second character is the digit zero, not the letter o."]),
        ("O_o", ["The first character is a capital o, not the digit zero."]),
        ("l00l0", [
            "The first and fourth characters are small Ls, not the digit one or a capital i.",
            "The second, third and fifth characters are digits zero, not the letter o.",
        ]),
    ],
)  # fmt: skip
def test_each_kind_of_character_is_told_once_with_its_places(name, told):
    assert look_alikes(name) == told


def test_the_last_place_of_the_longest_name_has_a_word():
    assert look_alikes("a" * 29 + "1") == ["The thirtieth character is the digit one, not a small L or a capital i."]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("xyz", []),
        ("abl", ["abI", "ab1"]),
        ("Ab1", ["Abl", "AbI"]),
        ("b0b", ["bOb"]),
        ("bob", ["b0b"]),
        ("a|b", ["alb", "aIb", "a1b"]),
        ("lol", ["Iol", "1ol", "loI", "lo1"]),
        ("told0", ["toId0", "to1d0", "toldO", "t0ld0"]),
    ],
)
def test_what_may_have_been_meant_differs_in_such_characters_only(name, meant):
    assert variants(name) == meant


@given(TWISTED)
def test_what_may_have_been_meant_is_another_name_and_never_more_than_four(name):
    meant = variants(name)

    assert len(meant) <= 4
    assert len({each.lower() for each in [name, *meant]}) == len(meant) + 1
    assert {len(each) for each in meant} <= {len(name)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Bill", "BiII"),
        ("alice", "aIice"),
        ("trader1", "traderl"),
        ("b0b", "BOB"),
        ("Anna", "aNNA"),
        ("a|l", "a1l"),
        ("Iris", "lris"),
        ("Iris", "1RiS"),
    ],
)
def test_names_that_look_alike_have_one_skeleton(one, other):
    assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Anna", "Anne"), ("anna", "anna_"), ("mail", "mall"), ("a-b", "a_b"), ("Iris", "iris"), ("iris", "lris")],
)
def test_names_that_do_not_have_different_ones(one, other):
    assert skeleton(one) != skeleton(other)


@given(NAMES.map(lambda name: name.replace("i", "j").replace("I", "J")))
def test_but_for_an_i_case_makes_no_difference(name):
    assert skeleton(name) == skeleton(name.upper()) == skeleton(name.lower())


@given(NAMES)
def test_variants_of_the_same_case_keep_the_skeleton(name):
    assert {skeleton(each) for each in variants(name)} <= {skeleton(name)}


def test_the_database_makes_the_same_skeleton(db):
    for name in ("BiII_0O1", "Anna", "o|l-L", "Iris", "iris", "IRIS"):
        made = sa.func.lower(sa.func.translate(name, SKELETON_FROM, SKELETON_TO))
        assert db.session.scalar(sa.select(made)) == skeleton(name)
