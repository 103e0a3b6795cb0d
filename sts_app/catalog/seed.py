"""The catalog a new store starts with: six strategies and one plan.

The words are the store's own and promise nothing about results; `tests/house/test_copy.py` reads
them. The script ids are placeholders that TradingView does not know: staff replace them, and a
production store does not sell while one is left.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class SeedStrategy:
    """One strategy of the start. Sessions are Eastern Time, the clock of the exchange's traders."""

    slug: str
    name: str
    script_id: str
    style: str
    session: str
    summary: str
    description: str
    methodology: str
    best_for: str
    features: tuple[str, str, str, str, str]
    market: str = "NQ"
    timeframe: str = "5m"

    def as_values(self) -> dict[str, Any]:
        return {**asdict(self), "features": list(self.features)}


@dataclass(frozen=True)
class SeedPlan:
    """The plan of the start. The price is in cents."""

    slug: str
    name: str
    price_cents: int
    currency: str = "usd"
    covers_all: bool = True

    def as_values(self) -> dict[str, Any]:
        return asdict(self)


PLAN = SeedPlan(slug="lifetime", name="STS Strategies - Lifetime Access", price_cents=9900)

STRATEGIES = (
    SeedStrategy(
        slug="nq-momentum-alpha",
        name="NQ Momentum Alpha",
        script_id="PUB;nq_momentum_alpha_001",
        style="momentum",
        session="US open, 9:30-11:30",
        summary="Looks for the moment when volume and price start to move together in the first two hours.",
        description=(
            "The first two hours of the US session carry much of the day's volume. NQ Momentum Alpha waits for "
            "ignition: a price move that volume confirms, rather than a move that volume ignores. It acts only in "
            "that window and is flat when the window ends. On a typical day it takes about two or three trades, and "
            "on a quiet one it may take none."
        ),
        methodology=(
            "A setup needs two things at once: price leaving its recent range, and volume rising above what is usual "
            "for that time of day. The entry adapts to the speed of the move, so a fast tape is not chased at a price "
            "meant for a slow one. Stops follow volatility: wider when the market is wide, tighter when it is calm. "
            "Every position is closed by the end of the session window. The rules were built on 15 years of NQ history."
        ),
        best_for=(
            "Traders who can watch the open, want a small number of decisions, and prefer to be finished by late "
            "morning."
        ),
        features=(
            "Momentum ignition confirmed by volume and price together",
            "Entries that adapt to the speed of the move",
            "Stops that widen and tighten with volatility",
            "Flat by the end of its window, 11:30 Eastern Time",
            "About two to three trades in a typical session",
        ),
    ),
    SeedStrategy(
        slug="nq-trend-rider",
        name="NQ Trend Rider",
        script_id="PUB;nq_trend_rider_002",
        style="trend",
        session="All sessions",
        summary="Agrees on a direction across several timeframes, waits for a pullback, then trails its stop.",
        description=(
            "Trends are easy to see afterwards and hard to sit through. NQ Trend Rider asks several timeframes for "
            "the same answer before it names a direction, and then waits for price to come back instead of running "
            "after it. It works in regular and in extended hours, so it can take part in a move that begins "
            "overnight."
        ),
        methodology=(
            "The higher timeframes set the direction and the 5-minute chart sets the entry. Without agreement there "
            "is no trade. Entries are made on pullbacks within the trend, and the stop trails behind the position as "
            "it goes its way. In a sideways market this style gives back small amounts again and again; that is the "
            "known cost of following trends. The rules were built on 15 years of NQ history."
        ),
        best_for=(
            "Patient traders who accept several small losses for a longer move, and whose day is not tied to one "
            "session."
        ),
        features=(
            "Direction confirmed on several timeframes",
            "Entries on pullbacks, not on extensions",
            "A trailing stop that follows the position",
            "Works in regular and extended hours",
            "Stands aside while the timeframes disagree",
        ),
    ),
    SeedStrategy(
        slug="nq-breakout-pro",
        name="NQ Breakout Pro",
        script_id="PUB;nq_breakout_pro_003",
        style="breakout",
        session="Pre-market and open",
        summary="Maps the pre-market levels and trades a break only when volume stands behind it.",
        description=(
            "Before the bell the market has already drawn its lines: the high and the low of the pre-market, and the "
            "prices it kept returning to. NQ Breakout Pro maps these levels and watches what happens there. Many "
            "breaks fail, so it asks for volume behind the move and for the right time of the morning."
        ),
        methodology=(
            "Levels are fixed before the open, so nothing is fitted after the fact. A break counts when price leaves "
            "the level with volume above its usual size; a quiet break is ignored. A time filter skips the minutes in "
            "which false breaks are most common. Profits are taken early and aggressively, because the first push "
            "after a break is often the larger part of it. The rules were built on 15 years of NQ history."
        ),
        best_for="Traders who prepare before the bell and like to see the levels on the chart before anything happens.",
        features=(
            "Pre-market levels mapped before the open",
            "Volume needed behind every break",
            "A time filter for the minutes of frequent false breaks",
            "Early and aggressive profit-taking",
            "Levels drawn on the chart for you to check",
        ),
    ),
    SeedStrategy(
        slug="nq-mean-reversion",
        name="NQ Mean Reversion",
        script_id="PUB;nq_mean_reversion_004",
        style="mean-reversion",
        session="Midday, 11:30-14:00",
        summary="Measures how far price is from the session's average and waits until the push runs dry.",
        description=(
            "Around midday volume thins out and moves tend to lose their breath. NQ Mean Reversion measures how far "
            "price has left the averages of the session and waits for signs that those who pushed it are done. Then "
            "it trades the way back, with a small and exact idea of where it is wrong."
        ),
        methodology=(
            "Distance alone is not a signal, since a stretched market can stretch further. The strategy wants "
            "deviation from the session averages together with volume depletion: the last part of the move is made on "
            "less and less volume. Invalidation is tight and defined before the entry. On a strong trend day this "
            "style is on the wrong side, and the tight invalidation is what limits the cost. The rules were built on "
            "15 years of NQ history."
        ),
        best_for="Traders who are at the desk over midday and want the point of being wrong to be known in advance.",
        features=(
            "Deviation measured from the averages of the session",
            "Volume depletion wanted before an entry",
            "Tight invalidation, defined in advance",
            "Limited to the midday window",
            "Targets on the way back to the average",
        ),
    ),
    SeedStrategy(
        slug="nq-power-hour",
        name="NQ Power Hour",
        script_id="PUB;nq_power_hour_005",
        style="momentum",
        session="Close, 15:00-16:00",
        summary="Watches the last hour for a shift in momentum that a surge of volume supports.",
        description=(
            "In the last hour, funds rebalance and day traders square up, and the tape often changes its mind. NQ "
            "Power Hour looks for that shift. It wants a surge of volume with it, aims for quick targets, and carries "
            "nothing past the close."
        ),
        methodology=(
            "The strategy compares the momentum of the last hour with that of the afternoon before it. A shift counts "
            "only with a surge in volume. Targets are near, because time is short: what has not worked by the close "
            "is closed. There is no overnight exposure. The rules were built on 15 years of NQ history."
        ),
        best_for="Traders with one free hour a day, in the late afternoon, who do not want to hold anything overnight.",
        features=(
            "Late shifts of momentum, compared with the afternoon",
            "Volume surges as confirmation",
            "Quick targets that suit a short window",
            "No position held overnight",
            "One hour of attention a day",
        ),
    ),
    SeedStrategy(
        slug="nq-overnight-edge",
        name="NQ Overnight Edge",
        script_id="PUB;nq_overnight_edge_006",
        style="trend",
        session="Globex session",
        summary="Detects trend in the thin overnight market, with wider stops and an eye on economic events.",
        description=(
            "While New York sleeps, NQ trades on with fewer orders in the book. Small flows move price further, and "
            "news from Asia and Europe arrives without warning. NQ Overnight Edge is made for that market: it looks "
            "for trend under thin conditions and gives it more room."
        ),
        methodology=(
            "Trend detection is tuned to low volume, where the readings of the day session would see noise as signal. "
            "Stops are wider than in the day strategies, so a position of the same size carries more risk; plan size "
            "accordingly. The strategy reacts to scheduled economic events and is flat before the US pre-market. The "
            "rules were built on 15 years of NQ history."
        ),
        best_for="Traders in European and Asian hours, and anybody who plans in the evening and sizes with care.",
        features=(
            "Trend detection tuned to thin markets",
            "Wider stops, suited to overnight ranges",
            "Reacts to scheduled economic events",
            "Flat before the US pre-market",
            "Made for the hours outside the US day session",
        ),
    ),
)
