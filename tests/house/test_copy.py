"""No page, letter or seed text claims what a seller of strategies must not claim."""

import html
import re
from dataclasses import asdict

import pytest

from sts_app.catalog.seed import PLAN, STRATEGIES
from sts_app.core.web import ROOT, TEMPLATES
from sts_app.pages.queries import QUESTIONS

FORBIDDEN = {
    "guaranteed results": r"\bguarante\w+\s+(\w+\s+)?(profit|return|result|income|gain|win|success)\w*",
    "results guaranteed": r"\b(profit|return|result|income|gain|win)s?\s+(are\s+|is\s+)?guaranteed",
    "no risk": r"\b(risk[- ]free|riskless|without\s+(any\s+)?risk|zero[- ]risk|(no|free\s+of)\s+risk|cannot\s+lose)\b",
    "best": r"\b(the|our|world'?s|very)\s+best\b|\bbest[- ](strateg|perform|sell|in[- ]class|indicator|system)\w*",
    "number one": r"(?<![\w&/\"'])#1\b(?!\d)|\b(number|no\.)\s*(one|1)\b|\b(top[- ]rated|unbeatable|market-leading)\b",
    "income figures": r"[$€£]\s?\d[\d,.]*k?\s*(a|per|/|every|each)\s*(trade|day|week|month|year)\b",
    "income": r"\b(passive|extra|second|steady|monthly|reliable)\s+income\b|\bget\s+rich\b|financial\s+freedom",
    "earnings": r"\b(earn|make|made|earned)\s+(up\s+to\s+)?([$€£]\s?\d|money|thousands|a\s+living)",
    "multiplying": r"\b(double|triple|multiply)\s+your\b|\b\d+x\s+(your|return|profit)\w*",
    "success rate": r"\b\d+([.,]\d+)?\s*(%|percent)\s*(of\s+(all\s+)?trades|win|success|accura|profit|return)\w*",
    "success rate, turned round": r"\b(win|success|hit|accuracy)\s+rate\s*(of|:|is)?\s*\d",
    "consistency": r"\b(consistent|consistently|proven|reliable|sure|certain)\s+(profit|return|winn|gain)\w*",
}

TRIED = {
    "guaranteed results": ["Guaranteed profits", "we guarantee you results", "guaranteed monthly income"],
    "results guaranteed": ["profits guaranteed", "Returns are guaranteed"],
    "no risk": ["risk-free", "Risk free trial of profit", "trade without risk", "no risk", "you cannot lose"],
    "best": ["the best strategy", "our best\nidea", "best-performing", "Best strategies for NQ"],
    "number one": ["The #1 NQ store", "number one", "top-rated"],
    "income figures": ["$500 a day", "€2,000 per month", "$10k/week"],
    "income": ["a second income", "passive income", "Get rich"],
    "earnings": ["earn $400", "make money", "earn up to $900"],
    "multiplying": ["double your account", "10x returns"],
    "success rate": ["87% win rate", "90 % of trades", "70 percent winning"],
    "success rate, turned round": ["win rate of 80", "Success rate: 9"],
    "consistency": ["consistent profits", "proven returns", "sure gains"],
}


def as_read(text: str) -> str:
    """The text with entities as characters and each run of blanks as one, so that no line break hides a claim."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"\{#.*?#\}|<!--.*?-->", " ", text, flags=re.S)))


def claims_in(text: str) -> list[str]:
    read = as_read(text)
    return [f"{name}: {match[0]!r}" for name, rule in FORBIDDEN.items() for match in re.finditer(rule, read, re.I)]


def copy() -> dict[str, str]:
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in TEMPLATES.rglob("*") if path.is_file()}
    for path in (ROOT / "sts_app").rglob("*.py"):
        if path.name in {
            "letters.py",
            "letters_money.py",
            "errors.py",
            "views.py",
            "forms.py",
            "words.py",
            "purchases.py",
            "account.py",
            "canned.py",
            "addresses.py",
            "identities.py",
            "with_google.py",
            "profile.py",
            "new_address.py",
            "going_on.py",
            "teaching.py",
            "telling.py",
            "linked_data.py",
        }:
            texts[str(path.relative_to(ROOT))] = path.read_text()
    for seeded in (*STRATEGIES, PLAN, *QUESTIONS):
        texts[f"{type(seeded).__name__} {seeded.slug}"] = "\n".join(
            part if isinstance(part, str) else "\n".join(part)
            for part in asdict(seeded).values()
            if isinstance(part, (str, tuple))
        )
    return texts


@pytest.mark.parametrize(("rule", "claim"), [(rule, claim) for rule, claims in TRIED.items() for claim in claims])
def test_the_list_catches_what_it_names(rule, claim):
    assert any(found.startswith(f"{rule}:") for found in claims_in(f"Buy now: {claim}."))


@pytest.mark.parametrize(
    "honest",
    [
        "Traders best described as patient.",
        "$99.00 once",
        "We promise no profit, no particular result and no protection from loss.",
        "Past performance does not tell future results.",
        '<path fill="#1a2b3c">',
        "makes the position wider",
    ],
)
def test_the_list_lets_honest_words_pass(honest):
    assert claims_in(honest) == []


def test_no_text_makes_a_forbidden_claim():
    offenders = {name: found for name, text in copy().items() if (found := claims_in(text))}

    assert offenders == {}


def test_the_regulation_stands_as_it_is_written():
    notice = as_read((TEMPLATES / "ui" / "notices.html").read_text())

    assert (
        "These results are based on simulated or hypothetical performance results that have certain inherent "
        "limitations. Unlike the results shown in an actual performance record, these results do not represent actual "
        "trading. Also, because these trades have not actually been executed, these results may have under-or "
        "over-compensated for the impact, if any, of certain market factors, such as lack of liquidity. Simulated or "
        "hypothetical trading programs in general are also subject to the fact that they are designed with the benefit "
        "of hindsight. No representation is being made that any account will or is likely to achieve profits or losses "
        "similar to these being shown."
    ) in notice
