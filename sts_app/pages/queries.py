"""The questions people ask before they buy, and how they are searched.

`{price}` in an answer is the price of the plan on sale, so that no page can show another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class Topic(StrEnum):
    """What a question is about, in the order of the page."""

    BUYING = "Buying"
    ACCESS = "Access"
    USING = "Using the strategies"
    RISK = "Risk and law"

    @property
    def slug(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Question:
    """One question, with its answer in paragraphs, and the one of a store whose access people give."""

    slug: str
    text: str
    answer: tuple[str, ...]
    topic: Topic
    by_hand: tuple[str, ...] = ()


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
        Topic.BUYING,
    ),
    Question(
        "what-does-it-cost",
        "What does it cost?",
        (
            "{price}, paid once, buys lifetime access to all strategies. It is not a subscription, nothing about it "
            "renews, and the price you see is the price that is charged. Your bank may add its own fee for a foreign "
            "currency.",
        ),
        Topic.BUYING,
    ),
    Question(
        "tradingview-plan",
        "Which TradingView account do I need?",
        (
            "Any TradingView account with a user name, because access is given to that name. TradingView decides "
            "which of its plans include alerts and how many indicators fit on one chart, so look there before you "
            "plan to run them all side by side. Exchange data for NQ in real time is also sold by TradingView.",
        ),
        Topic.BUYING,
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
        Topic.ACCESS,
        by_hand=(
            "A person invites your TradingView name to each script after the payment is confirmed, and confirms it; "
            "only then does your dashboard say Active.",
            "Until then your dashboard says Pending, and a letter tells you when your access is active.",
        ),
    ),
    Question(
        "where-are-the-scripts",
        "Where do I find the scripts on TradingView?",
        (
            "Open a chart, choose Indicators, then Invite-only scripts. The strategies you hold are listed there by "
            "name. Add one to an NQ chart on the 5-minute timeframe.",
        ),
        Topic.ACCESS,
    ),
    Question(
        "wrong-name",
        "What if I type my TradingView name wrong?",
        (
            "The name is checked with TradingView before you pay, so a name that does not exist is caught before any "
            "money moves. Do make sure that it is your own name: a similar one may belong to somebody else.",
        ),
        Topic.ACCESS,
        by_hand=(
            "Correct it on your dashboard, and access follows to the right name. Do compare it with your TradingView "
            "profile before you pay: a similar one may belong to somebody else.",
        ),
    ),
    Question(
        "change-name",
        "Can I change my TradingView name later?",
        (
            "Yes. Access moves with you: the new name is invited first, and the old one is removed only after the new "
            "one is confirmed.",
        ),
        Topic.ACCESS,
    ),
    Question(
        "source-code",
        "Can I see the source code?",
        (
            "No. The scripts are invite-only, which means that you can run and configure them, but the source stays "
            "closed. Each strategy's page tells in words what it looks for, when it acts and when it does not.",
        ),
        Topic.USING,
    ),
    Question(
        "automated",
        "Do the strategies place orders for me?",
        (
            "No. They mark entries and exits on your TradingView chart, and they can raise TradingView alerts. Every "
            "order is your own decision, at your own broker.",
        ),
        Topic.USING,
    ),
    Question(
        "other-charts",
        "Can I use them on other markets or timeframes?",
        (
            "TradingView lets you put a script on any chart. The rules were made for NQ on the 5-minute chart and for "
            "the hours their pages name; what they do elsewhere has not been looked at, and we say nothing about it. "
            "MNQ, the micro contract, follows the same index with a tenth of the size.",
        ),
        Topic.USING,
    ),
    Question(
        "several-at-once",
        "Can I run several at once?",
        (
            "Yes, as far as your TradingView plan has room on a chart. They do not know of each other: two of them can "
            "be in the market at the same time, and then the risk of both adds up. Plan sizes for the sum.",
        ),
        Topic.USING,
    ),
    Question(
        "updates",
        "What happens when a script is improved?",
        (
            "TradingView gives the new version to everybody who has access. You may have to remove the script from a "
            "chart and add it again, and alerts that were set on the old version keep it until you set them anew.",
        ),
        Topic.USING,
    ),
    Question(
        "help",
        "How do I reach a person?",
        (
            "Sign in and open a ticket: questions of access and payment are answered within 8 hours, others within 24.",
            "When you have no account, write by the contact page: questions about access, payment and using a strategy "
            "are answered within 24 hours, others within three days.",
        ),
        Topic.ACCESS,
    ),
    Question(
        "what-results",
        "What results can I expect?",
        (
            "We do not know, and nobody honest can tell you. Trading futures can lose more than you put in. Tests on "
            "history are hypothetical, were made with the benefit of hindsight, and say nothing certain about what "
            "comes next.",
        ),
        Topic.RISK,
    ),
    Question(
        "advice",
        "Is this investment advice?",
        (
            "No. This is not investment advice. The strategies are software for research and education, the same for "
            "every customer. We do not know your situation and recommend no trade to you.",
        ),
        Topic.RISK,
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
        Topic.BUYING,
    ),
    Question(
        "card-data",
        "Is my card safe with you?",
        (
            "We never see it. Payment takes place on a page of Stripe, and what comes back to us is whether it "
            "succeeded and its reference.",
        ),
        Topic.BUYING,
    ),
    Question(
        "affiliation",
        "Do you belong to TradingView?",
        (
            "No. We are not affiliated with TradingView, Stripe or any exchange. We publish scripts on TradingView "
            "and invite people to them.",
        ),
        Topic.RISK,
    ),
)


def questions_matching(search: str, *, price: str, by_hand: bool) -> Sequence[Question]:
    """The questions that hold every word of `search`, in their usual order; all of them for a blank one.

    `by_hand` is whether access is given by people, because the store cannot ask TradingView itself.
    """
    words = search.casefold().split()
    answered = (
        replace(
            question,
            answer=tuple(part.replace("{price}", price) for part in (by_hand and question.by_hand) or question.answer),
        )
        for question in QUESTIONS
    )
    return [question for question in answered if _holds(question, words)]


def by_topic(questions: Sequence[Question]) -> Sequence[tuple[Topic, Sequence[Question]]]:
    """The questions under their topics; a topic without any is left out."""
    grouped = ((topic, [each for each in questions if each.topic == topic]) for topic in Topic)
    return [(topic, found) for topic, found in grouped if found]


def questions_named(*slugs: str, price: str, by_hand: bool) -> Sequence[Question]:
    """The questions with these slugs, in the order asked for."""
    by_slug = {question.slug: question for question in questions_matching("", price=price, by_hand=by_hand)}
    return [by_slug[slug] for slug in slugs]


def _holds(question: Question, words: Sequence[str]) -> bool:
    text = " ".join((question.text, *question.answer)).casefold()
    return all(word in text for word in words)
