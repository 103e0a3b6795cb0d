"""What must always hold, each as one query that returns the offenders.

Run every five minutes, after every test that touched the database, and by `sts invariants`. The
sentences are PRODUCT's; a query here is their only definition. `now` is a parameter, so that a test
with its own clock asks about its own present.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from sts_app.core import clock

OVERDUE = timedelta(minutes=5)

_WANTED = """
    SELECT DISTINCT n.name_key, s.script_id
    FROM entitlement e
    JOIN tradingview_name n ON n.user_id = e.user_id AND n.replaced_at IS NULL
    JOIN plan p ON p.id = e.plan_id AND p.covers_all
    JOIN strategy s ON s.status IN ('on_sale', 'retired')
    WHERE e.starts_at <= :now AND (e.ends_at IS NULL OR e.ends_at > :now) AND e.suspended_at IS NULL
"""


@dataclass(frozen=True)
class Invariant:
    """`sql` returns one row for each offender: nothing when all is well.

    `needs_workers` marks what only holds while workers are alive, such as nothing being overdue.
    """

    name: str
    sql: str
    needs_workers: bool = False


INVARIANTS = (
    Invariant(
        "no completed purchase without its entitlement",
        """SELECT p.id FROM purchase p LEFT JOIN entitlement e ON e.source = 'purchase:' || p.id
           WHERE p.status IN ('COMPLETED', 'PARTIALLY_REFUNDED') AND e.id IS NULL""",
    ),
    Invariant(
        "no refunded purchase that still entitles",
        """SELECT p.id FROM purchase p JOIN entitlement e ON e.source = 'purchase:' || p.id
           WHERE p.status = 'REFUNDED' AND (e.ends_at IS NULL OR e.ends_at > :now)""",
    ),
    Invariant(
        "no desired pair without a grant row that is moving, verified, or waiting for a named person",
        f"""SELECT w.name_key, w.script_id FROM ({_WANTED}) w
            LEFT JOIN grants g ON g.name_key = w.name_key AND g.script_id = w.script_id AND g.wanted
            WHERE g.id IS NULL
               OR g.state IN ('revoking', 'absent')
               OR (g.state = 'pending' AND g.next_attempt_at IS NULL)
               OR (g.state = 'with_staff' AND NOT EXISTS (
                     SELECT 1 FROM manual_task t WHERE t.grant_id = g.id AND t.closed_at IS NULL))""",
    ),
    Invariant(
        "no verified access without evidence newer than its last grant",
        """SELECT g.id FROM grants g JOIN provisioning_job j ON j.grant_id = g.id AND j.cycle = g.cycle
           WHERE g.state = 'verified'
             AND (g.evidence IS NULL OR g.verified_at IS NULL OR g.verified_at < j.created_at)""",
    ),
    Invariant(
        "no absent pair without evidence, unless nothing was ever sent for it",
        """SELECT id FROM grants WHERE state = 'absent' AND called_at IS NOT NULL AND absent_at IS NULL""",
    ),
    Invariant(
        "no unwanted pair that is neither being revoked, with a person, nor absent",
        """SELECT g.id FROM grants g WHERE NOT g.wanted AND (
               g.state NOT IN ('revoking', 'absent', 'with_staff')
            OR (g.state = 'revoking' AND g.next_attempt_at IS NULL)
            OR (g.state = 'with_staff' AND NOT EXISTS (
                  SELECT 1 FROM manual_task t WHERE t.grant_id = g.id AND t.closed_at IS NULL)))""",
    ),
    Invariant(
        "no pair that keeps being wanted after its entitlements ended",
        f"""SELECT g.id FROM grants g
            JOIN tradingview_name n ON n.name_key = g.name_key AND n.replaced_at IS NULL
            LEFT JOIN ({_WANTED}) w ON w.name_key = g.name_key AND w.script_id = g.script_id
            WHERE g.wanted AND w.name_key IS NULL""",
    ),
    Invariant(
        "no name still held by somebody who has no current one",
        """SELECT n.id FROM tradingview_name n WHERE n.released_at IS NULL AND NOT EXISTS (
               SELECT 1 FROM tradingview_name c WHERE c.user_id = n.user_id AND c.replaced_at IS NULL)""",
    ),
    Invariant(
        "no two calls in flight for one pair",
        """SELECT grant_id FROM provisioning_attempt WHERE finished_at IS NULL GROUP BY grant_id HAVING count(*) > 1""",
    ),
    Invariant(
        "no open attempt without its lease",
        """SELECT a.id FROM provisioning_attempt a JOIN grants g ON g.id = a.grant_id
           WHERE a.finished_at IS NULL AND g.lease_token IS DISTINCT FROM a.lease_token""",
    ),
    Invariant(
        "no two open purchases of one plan per person",
        """SELECT user_id, plan_id FROM purchase WHERE status = 'PENDING'
           GROUP BY user_id, plan_id HAVING count(*) > 1""",
    ),
    Invariant(
        "no letter written twice under one key",
        "SELECT key FROM email_message GROUP BY key HAVING count(*) > 1",
    ),
    Invariant(
        "no secret letter kept after it was sent",
        """SELECT id FROM email_message WHERE secret AND state = 'sent' AND (text <> '' OR html <> '')""",
    ),
    Invariant(
        "no lease older than its length",
        """SELECT 'grant', id FROM grants WHERE leased_until < :overdue
           UNION ALL SELECT 'event', id FROM webhook_event WHERE leased_until < :overdue
           UNION ALL SELECT 'purchase', id FROM purchase WHERE leased_until < :overdue
           UNION ALL SELECT 'letter', id FROM email_message WHERE leased_until < :overdue AND state = 'sending'""",
        needs_workers=True,
    ),
    Invariant(
        "no due row older than five minutes",
        """SELECT 'grant', id FROM grants WHERE next_attempt_at < :overdue
           UNION ALL SELECT 'event', id FROM webhook_event WHERE next_attempt_at < :overdue
           UNION ALL SELECT 'letter', id FROM email_message
                     WHERE state IN ('queued', 'sending') AND next_attempt_at < :overdue""",
        needs_workers=True,
    ),
    Invariant(
        "no stored event unhandled without an end state",
        """SELECT id FROM webhook_event WHERE state = 'received'
           AND (next_attempt_at IS NULL OR (tries = 0 AND created_at < :overdue))""",
        needs_workers=True,
    ),
)


def broken(
    connection: sa.Connection, *, now: datetime | None = None, workers_alive: bool = True
) -> dict[str, list[tuple[Any, ...]]]:
    """The offenders by invariant; empty when all hold."""
    now = now or clock.now()
    found = {}
    for invariant in INVARIANTS:
        if invariant.needs_workers and not workers_alive:
            continue
        statement = sa.text(invariant.sql)
        known = {"now": now, "overdue": now - OVERDUE}
        parameters = {name: value for name, value in known.items() if f":{name}" in invariant.sql}
        rows = [tuple(row) for row in connection.execute(statement, parameters)]
        if rows:
            found[invariant.name] = rows
    return found
