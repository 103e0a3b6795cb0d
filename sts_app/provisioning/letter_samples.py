"""A sample of each letter that provisioning writes."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

from sts_app.accounts.letter_samples import customer
from sts_app.catalog.models import Strategy
from sts_app.core.db import db
from sts_app.emails.samples import Given, Sample, given
from sts_app.provisioning import letters
from sts_app.provisioning.comparing import Act
from sts_app.provisioning.cycles import CONFIRMED_BY_STAFF
from sts_app.provisioning.findings import Line, Report
from sts_app.provisioning.models import Entitlement, Grant
from sts_app.provisioning.rules import Finding

AT = datetime(2026, 11, 21, 15, 4, tzinfo=UTC)
NAME = "Anna_Trades"
NAMES = (
    "NQ Momentum Alpha",
    "NQ Trend Rider",
    "NQ Breakout Pro",
    "NQ Mean Reversion",
    "NQ Power Hour",
    "NQ Overnight Edge",
)


def strategies() -> list[Strategy]:
    """Six strategies for samples, put into the transaction of whoever looks."""
    texts = dict.fromkeys(("style", "session", "summary", "description", "methodology", "best_for"), "words")
    made = [
        Strategy(slug=f"letter-sample-{number}", name=name, script_id=f"PUB;letter_sample_{number:03}", **texts)
        for number, name in enumerate(NAMES, 1)
    ]
    db.session.add_all(made)
    db.session.flush()
    return made


def _granted(active: int, *, evidence: str = "read back") -> Given:
    rows = [
        SimpleNamespace(
            strategy=strategy,
            state="Active" if number < active else "Pending",
            grant=SimpleNamespace(evidence=evidence),
        )
        for number, strategy in enumerate(strategies())
    ]
    return given(customer(), Entitlement(id=12), NAME, rows)


def _grants(*wanted: bool) -> list[Grant]:
    """A pair for each word: wanted, or to be removed."""
    return [
        Grant(name_spelling=NAME, script_id=strategy.script_id, strategy_id=strategy.id, wanted=each)
        for strategy, each in zip(strategies(), wanted, strict=False)
    ]


def _report(*, because: str | None = None, waiting: int = 0) -> Report:
    lines = tuple(
        Line(
            id=number,
            kind=Finding.STRANGER,
            name=f"somebody_{number}",
            script_id="PUB;letter_sample_001",
            expires_at=None,
            act=Act.ASK,
            decided_at=None,
            decided_by=None,
            waits=True,
        )
        for number in range(1, waiting + 1)
    )
    return Report(
        run_id=31,
        source="daily",
        actor="system",
        dry_run=False,
        state="refused" if because else "complete",
        because=because,
        began_at=AT,
        finished_at=AT,
        counts={},
        lines=lines,
    )


SAMPLES = (
    Sample("access-granted", "All strategies are active", letters.access_granted, lambda: _granted(6)),
    Sample(
        "access-granted-by-hand",
        "All are active, by the word of staff",
        letters.access_granted,
        lambda: _granted(6, evidence=CONFIRMED_BY_STAFF),
    ),
    Sample("access-partly-granted", "Some are active, some wait", letters.access_partly_granted, lambda: _granted(4)),
    Sample(
        "access-failed-name",
        "TradingView does not know the name",
        letters.access_failed,
        lambda: given(customer().id, NAME, key="sample", name_unknown=True),
    ),
    Sample(
        "access-failed",
        "Access takes longer, a person is on it",
        letters.access_failed,
        lambda: given(customer().id, NAME, key="sample", name_unknown=False),
    ),
    Sample(
        "access-cannot",
        "A person could not give access",
        letters.access_cannot,
        lambda: given(customer().id, _grants(True, True), key="sample"),
    ),
    Sample(
        "provisioning-failure",
        "Access has failed three times",
        letters.provisioning_failure,
        lambda: given(_grants(True, True), "TradingView answered 500", key="sample"),
    ),
    Sample(
        "provisioning-failure-final",
        "Access is handed to a person",
        letters.provisioning_failure,
        lambda: given(_grants(True, True), "TradingView answered 200 and did nothing", key="sample", final=True),
    ),
    Sample(
        "manual-tasks",
        "Work at TradingView for a person",
        letters.manual_tasks,
        lambda: given(_grants(True, True, False), key="sample"),
    ),
    Sample(
        "session-refused",
        "TradingView refuses our session",
        letters.session_refused,
        lambda: given(5, "401, the session is over"),
    ),
    Sample(
        "session-restored",
        "TradingView accepts it again",
        letters.session_restored,
        lambda: given(5, by="user:2", automatic=True),
    ),
    Sample(
        "session-restored-by-hand",
        "It accepts it again, and staff keep the machine off",
        letters.session_restored,
        lambda: given(5, by="cli", automatic=False),
    ),
    Sample(
        "credential-age",
        "Credentials are a week old",
        letters.credential_age,
        lambda: given(7, critical=False, key="sample"),
    ),
    Sample(
        "credential-age-critical",
        "Credentials are two weeks old",
        letters.credential_age,
        lambda: given(14, critical=True, key="sample"),
    ),
    Sample(
        "reconciliation-waiting",
        "Strangers hold access",
        letters.reconciliation,
        lambda: given(_report(waiting=53), refused=False),
    ),
    Sample(
        "reconciliation-refused",
        "The comparison was refused",
        letters.reconciliation,
        lambda: given(_report(because="TradingView's list lacks most of those who hold the script."), refused=True),
    ),
)
