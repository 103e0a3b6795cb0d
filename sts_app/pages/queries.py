"""The questions people ask before they buy, and how they are searched.

`{price}` in an answer is the price of the plan on sale, so that no page can show another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Question:
    """One question, with its answer in paragraphs."""

    slug: str
    text: str
    answer: tuple[str, ...]


QUESTIONS = (
    Question(
        "what-do-i-get",
        "What exactly do I get?",
        (
            "Access to every invite-only strategy script in our catalog, for as long as it is published on "
            "TradingView. The first six are Momentum Alpha, Trend Rider, Breakout Pro, Mean Reversion, Power Hour and "
            "Overnight Edge. Each is made for NQ, the Nasdaq-100 future, on the 5-minute chart.",
            "Every strategy we add later is given to all who hold lifetime access, at no further charge.",
        ),
    ),
    Question(
        "what-does-it-cost",
        "What does it cost?",
        (
            "{price}, paid once, buys lifetime access to all strategies. It is not a subscription, nothing about it "
            "renews, and the price you see is the price that is charged. Your bank may add its own fee for a foreign "
            "currency.",
        ),
    ),
    Question(
        "tradingview-plan",
        "Which TradingView account do I need?",
        (
            "Any TradingView account with a user name, because access is given to that name. TradingView decides "
            "which of its plans include alerts and how many indicators fit on one chart, so look there before you "
            "plan to run them all side by side. Exchange data for NQ in real time is also sold by TradingView.",
        ),
    ),
    Question(
        "how-long",
        "How long does it take until I have access?",
        (
            "Normally a minute or two after the payment is confirmed. We invite your TradingView name to each script, "
            "then read the invitation back; only then does your dashboard say Active.",
            "When TradingView does not answer, your access stays Pending and is tried again without you. If tries do "
            "not help, a person takes over. Your dashboard tells you which of these it is.",
        ),
    ),
    Question(
        "where-are-the-scripts",
        "Where do I find the scripts on TradingView?",
        (
            "Open a chart, choose Indicators, then Invite-only scripts. The strategies you hold are listed there by "
            "name. Add one to an NQ chart on the 5-minute timeframe.",
        ),
    ),
    Question(
        "wrong-name",
        "What if I type my TradingView name wrong?",
        (
            "The name is checked with TradingView before you pay, so a name that does not exist is caught before any "
            "money moves. Do make sure that it is your own name: a similar one may belong to somebody else.",
        ),
    ),
    Question(
        "change-name",
        "Can I change my TradingView name later?",
        (
            "Yes. Access moves with you: the new name is invited first, and the old one is removed only after the new "
            "one is confirmed.",
        ),
    ),
    Question(
        "source-code",
        "Can I see the source code?",
        (
            "No. The scripts are invite-only, which means that you can run and configure them, but the source stays "
            "closed. Each strategy's page tells in words what it looks for, when it acts and when it does not.",
        ),
    ),
    Question(
        "automated",
        "Do the strategies place orders for me?",
        (
            "No. They mark entries and exits on your TradingView chart, and they can raise TradingView alerts. Every "
            "order is your own decision, at your own broker.",
        ),
    ),
    Question(
        "what-results",
        "What results can I expect?",
        (
            "We do not know, and nobody honest can tell you. Trading futures can lose more than you put in. Tests on "
            "history are hypothetical, were made with the benefit of hindsight, and say nothing certain about what "
            "comes next.",
        ),
    ),
    Question(
        "advice",
        "Is this investment advice?",
        (
            "No. This is not investment advice. The strategies are software for research and education, the same for "
            "every customer. We do not know your situation and recommend no trade to you.",
        ),
    ),
    Question(
        "refunds",
        "Can I get a refund?",
        (
            "All sales are final, because access to the scripts cannot be handed back once it was used. Any right of "
            "withdrawal that the law of your country gives you stays untouched.",
            "If you were charged twice, or if we cannot give you the access you paid for, you get your money back.",
            "To withdraw, press Withdraw from contract here beside the purchase on your dashboard, within 14 days of "
            "paying, or on the page about refunds at any time. You confirm it once, a letter says at once that it "
            "arrived, and a person answers by letter.",
        ),
    ),
    Question(
        "card-data",
        "Is my card safe with you?",
        (
            "We never see it. Payment takes place on a page of Stripe, and what comes back to us is whether it "
            "succeeded and its reference.",
        ),
    ),
    Question(
        "affiliation",
        "Do you belong to TradingView?",
        (
            "No. We are not affiliated with TradingView, Stripe or any exchange. We publish scripts on TradingView "
            "and invite people to them.",
        ),
    ),
)


def questions_matching(search: str, *, price: str) -> Sequence[Question]:
    """The questions that hold every word of `search`, in their usual order; all of them for a blank one."""
    words = search.casefold().split()
    priced = (
        replace(question, answer=tuple(part.replace("{price}", price) for part in question.answer))
        for question in QUESTIONS
    )
    return [question for question in priced if _holds(question, words)]


def questions_named(*slugs: str, price: str) -> Sequence[Question]:
    """The questions with these slugs, in the order asked for."""
    by_slug = {question.slug: question for question in questions_matching("", price=price)}
    return [by_slug[slug] for slug in slugs]


def _holds(question: Question, words: Sequence[str]) -> bool:
    text = " ".join((question.text, *question.answer)).casefold()
    return all(word in text for word in words)
