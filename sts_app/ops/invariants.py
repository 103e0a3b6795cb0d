"""What must always hold, each as one query that returns the offenders.

Run every five minutes, after every test that touched the database, and by `sts invariants`. The
sentences are PRODUCT's; a query here is their only definition. `now` is a parameter, so that a test
with its own clock asks about its own present.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from sts_app.core import clock
from sts_app.ops.invariant import Invariant
from sts_app.ops.invariants_leaving import LEAVING
from sts_app.ops.invariants_money import MONEY

OVERDUE = timedelta(minutes=5)
# A run of reconciliation ends within a quarter of an hour.
RECONCILED = timedelta(minutes=20)

# `catalog.queries.coverage` in the words of SQL, of a plan p and a strategy s.
_COVERS = """(p.covers_all OR EXISTS (
    SELECT 1 FROM plan_strategy ps WHERE ps.plan_id = p.id AND ps.strategy_id = s.id))"""

# Clocks of two processes differ by up to half a minute, so an end that lies just ahead of ours may have come already.
_ENTITLED = f"""
    SELECT n.name_key, s.script_id, s.updated_at AS changed_at, greatest(e.created_at, n.created_at) AS given_at
    FROM entitlement e
    JOIN tradingview_name n ON n.user_id = e.user_id AND n.replaced_at IS NULL
    JOIN plan p ON p.id = e.plan_id
    JOIN strategy s ON s.status IN ('on_sale', 'retired') AND {_COVERS}
    WHERE e.starts_at <= :now AND (e.ends_at IS NULL OR e.ends_at > CAST(:now AS timestamptz) + interval '1 minute')
      AND e.suspended_at IS NULL
"""

# What should stand: every current name with every present script that its holder is entitled to.
WANTED = f"SELECT DISTINCT name_key, script_id FROM ({_ENTITLED}) entitled"

_SCRIPTS = """
    SELECT id AS strategy_id, script_id FROM strategy
    UNION ALL SELECT strategy_id, script_id FROM former_script
"""


INVARIANTS: tuple[Invariant, ...] = (
    *MONEY,
    *LEAVING,
    Invariant(
        "no completed purchase without its entitlement",
        """SELECT p.id FROM purchase p LEFT JOIN entitlement e ON e.source = 'purchase:' || p.id
           JOIN plan ON plan.id = p.plan_id
           WHERE p.status IN ('COMPLETED', 'PARTIALLY_REFUNDED') AND e.id IS NULL
             AND p.subscription_id IS NULL AND plan.mode = 'payment'""",
    ),
    Invariant(
        "no refunded purchase that still entitles",
        """SELECT p.id FROM purchase p JOIN entitlement e ON e.source = 'purchase:' || p.id
           WHERE p.status = 'REFUNDED' AND (e.ends_at IS NULL OR e.ends_at > :now)""",
    ),
    Invariant(
        # A strategy that was put on sale or moved reaches those who were there before by the sweeps, five
        # hundred people a minute; whoever came later has a row from the beginning.
        "no desired pair without a grant row",
        f"""SELECT DISTINCT w.name_key, w.script_id FROM ({_ENTITLED}) w
            LEFT JOIN grants g ON g.name_key = w.name_key AND g.script_id = w.script_id AND g.wanted
            WHERE g.id IS NULL
              AND (w.given_at >= w.changed_at OR w.changed_at < CAST(:now AS timestamptz) - interval '1 hour')""",
    ),
    Invariant(
        "no wanted pair that is not moving, verified, or waiting for a named person",
        """SELECT g.id FROM grants g WHERE g.wanted AND (
               g.state IN ('revoking', 'absent')
            OR (g.state = 'pending' AND g.next_attempt_at IS NULL)
            OR (g.state = 'with_staff' AND NOT EXISTS (
                  SELECT 1 FROM manual_task t WHERE t.grant_id = g.id AND t.closed_at IS NULL)))""",
    ),
    Invariant(
        "no failed pair without a person who said that it cannot be done",
        """SELECT g.id FROM grants g WHERE g.state = 'failed' AND NOT (g.wanted AND EXISTS (
               SELECT 1 FROM manual_task t
               WHERE t.grant_id = g.id AND t.cycle = g.cycle AND t.outcome = 'cannot' AND t.closed_at IS NOT NULL))""",
    ),
    Invariant(
        "no verified access without evidence newer than its last grant",
        """SELECT g.id FROM grants g JOIN provisioning_job j ON j.grant_id = g.id AND j.cycle = g.cycle
           WHERE g.state = 'verified' AND (
               g.evidence IS NULL OR g.verified_at IS NULL OR g.verified_at < j.created_at - interval '1 minute')""",
    ),
    Invariant(
        "no absent pair without evidence newer than its end, unless nothing was ever sent for it",
        """SELECT g.id FROM grants g JOIN provisioning_job j ON j.grant_id = g.id AND j.cycle = g.cycle
           WHERE g.state = 'absent' AND g.called_at IS NOT NULL AND (
               g.evidence IS NULL OR g.absent_at IS NULL OR g.absent_at < j.created_at - interval '1 minute')""",
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
        # An end by its date is put into effect by the next sweep; one that somebody brought about, at once. What
        # a plan covers no longer is taken from its holders by the sweeps, five hundred people a minute.
        "no pair that keeps being wanted after its entitlements ended",
        f"""SELECT g.id FROM grants g WHERE g.wanted AND NOT EXISTS (
               SELECT 1 FROM tradingview_name n
               JOIN entitlement e ON e.user_id = n.user_id AND e.suspended_at IS NULL
                AND e.starts_at <= CAST(:now AS timestamptz) + interval '1 minute'
                AND (e.ends_at IS NULL OR e.ends_at > CASE WHEN e.ended_because IS NULL THEN :overdue ELSE :now END)
               JOIN plan p ON p.id = e.plan_id
               JOIN ({_SCRIPTS}) c ON c.script_id = g.script_id
               JOIN strategy s ON s.id = c.strategy_id AND s.status IN ('on_sale', 'retired')
                AND ({_COVERS} OR s.updated_at > CAST(:now AS timestamptz) - interval '1 hour')
               WHERE n.name_key = g.name_key AND n.released_at IS NULL)""",
    ),
    Invariant(
        "no former name or script kept after what replaces it was verified",
        f"""SELECT g.id FROM grants g
            JOIN tradingview_name n ON n.name_key = g.name_key AND n.released_at IS NULL
            JOIN tradingview_name now_called ON now_called.user_id = n.user_id AND now_called.replaced_at IS NULL
            JOIN ({_SCRIPTS}) c ON c.script_id = g.script_id
            JOIN strategy s ON s.id = c.strategy_id
            JOIN grants target ON target.name_key = now_called.name_key AND target.script_id = s.script_id
            WHERE g.wanted AND target.state = 'verified' AND target.id <> g.id""",
    ),
    Invariant(
        "no pair without the job of its present cycle",
        """SELECT g.id FROM grants g
           LEFT JOIN provisioning_job j ON j.grant_id = g.id AND j.cycle = g.cycle AND j.wanted = g.wanted
           WHERE j.id IS NULL""",
    ),
    Invariant(
        "no job that says otherwise than its pair",
        """SELECT j.id FROM provisioning_job j JOIN grants g ON g.id = j.grant_id
           WHERE (j.closed_at IS NOT NULL) <> (j.state IN ('reached', 'superseded'))
              OR (j.cycle < g.cycle AND j.closed_at IS NULL)
              OR (j.cycle = g.cycle AND j.state <> CASE
                    WHEN g.state IN ('verified', 'absent') THEN 'reached'
                    WHEN g.state IN ('with_staff', 'failed') THEN 'with_staff'
                    ELSE 'open' END)""",
    ),
    Invariant(
        "no open task on a pair that is settled or has turned",
        """SELECT t.id FROM manual_task t JOIN grants g ON g.id = t.grant_id
           WHERE t.closed_at IS NULL AND (g.state <> 'with_staff' OR t.cycle <> g.cycle OR t.wanted <> g.wanted)""",
    ),
    Invariant(
        "no task that a person ended without their name",
        """SELECT id FROM manual_task
           WHERE outcome IS NOT NULL AND (closed_at IS NULL OR closed_by IS NULL OR closed_by = 'system')""",
    ),
    Invariant(
        "no pair that a person says was done without their task",
        """SELECT g.id FROM grants g WHERE g.said_by IS NOT NULL AND (
               g.state NOT IN ('pending', 'revoking')
            OR NOT EXISTS (
                  SELECT 1 FROM manual_task t WHERE t.grant_id = g.id AND t.cycle = g.cycle
                  AND t.outcome = 'done' AND t.closed_by = g.said_by))""",
    ),
    Invariant(
        "no two credential sets in use",
        "SELECT min(id) FROM tradingview_credential WHERE retired_at IS NULL HAVING count(*) > 1",
    ),
    Invariant(
        "no two incidents open",
        "SELECT min(id) FROM provisioning_incident WHERE closed_at IS NULL HAVING count(*) > 1",
    ),
    Invariant(
        "no incident closed without a person",
        """SELECT id FROM provisioning_incident
           WHERE closed_at IS NOT NULL AND (closed_by IS NULL OR closed_by = 'system')""",
    ),
    Invariant(
        "no switch that an incident moved after the incident, and none at AUTO during one",
        """SELECT c.id FROM provisioning_control c
           LEFT JOIN provisioning_incident i ON i.closed_at IS NULL
           WHERE (c.switched_by LIKE 'incident:%' AND c.switched_by IS DISTINCT FROM 'incident:' || i.id)
              OR (c.switch = 'AUTO' AND i.id IS NOT NULL)""",
    ),
    Invariant(
        "no open circuit without the time of its next canary",
        "SELECT id FROM provisioning_control WHERE (circuit_opened_at IS NULL) <> (canary_at IS NULL)",
    ),
    Invariant(
        "no reconciliation under way for longer than it may take",
        "SELECT id FROM reconciliation_run WHERE state = 'running' AND created_at < :reconciled",
        needs_workers=True,
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
        "no open attempt without its lease, and no lease without its open attempt",
        """SELECT coalesce(a.grant_id, g.id)
           FROM (SELECT grant_id, lease_token FROM provisioning_attempt WHERE finished_at IS NULL) a
           FULL JOIN (SELECT id, lease_token FROM grants WHERE lease_token IS NOT NULL) g
                ON g.id = a.grant_id AND g.lease_token = a.lease_token
           WHERE a.grant_id IS NULL OR g.id IS NULL""",
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
        "no needed letter kept back from an address that takes letters",
        """SELECT m.id FROM email_message m LEFT JOIN mail_address a ON a.address = lower(m.to_address)
           WHERE m.state = 'withheld' AND m.need = 'needed'
             AND m.created_at > CAST(:now AS timestamptz) - interval '29 days'
             AND (a.bounced_at IS NULL OR a.confirmed_at > a.bounced_at)""",
    ),
    Invariant(
        "no letter sent without what was told of it",
        """SELECT m.id FROM email_message m JOIN mail_event e ON e.provider_id = m.provider_id
           WHERE m.delivered_at IS NULL AND m.trouble IS NULL""",
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
           UNION ALL SELECT 'refund', id FROM refund WHERE leased_until < :overdue
           UNION ALL SELECT 'dispute', id FROM dispute WHERE leased_until < :overdue
           UNION ALL SELECT 'subscription', id FROM subscription WHERE leased_until < :overdue
           UNION ALL SELECT 'customer', id FROM stripe_customer WHERE leased_until < :overdue
           UNION ALL SELECT 'address', id FROM address_update WHERE leased_until < :overdue
           UNION ALL SELECT 'letter', id FROM email_message WHERE leased_until < :overdue AND state = 'sending'""",
        needs_workers=True,
    ),
    Invariant(
        # With much to do, or TradingView asking for patience, what is due waits its turn: then others are tried.
        "no due pair older than five minutes while nothing is tried",
        """SELECT g.id FROM grants g, provisioning_control c
           WHERE g.next_attempt_at < :overdue AND c.switch <> 'DISABLED' AND c.circuit_opened_at IS NULL
             AND NOT (g.state IN ('verified', 'absent')
                      AND EXISTS (SELECT 1 FROM provisioning_incident i WHERE i.closed_at IS NULL))
             AND NOT EXISTS (SELECT 1 FROM provisioning_attempt a WHERE a.created_at > :overdue)
             AND NOT EXISTS (SELECT 1 FROM pace_bucket b WHERE b.held_until > :overdue)""",
        needs_workers=True,
    ),
    Invariant(
        "no due event or letter older than five minutes",
        """SELECT 'event', id FROM webhook_event WHERE next_attempt_at < :overdue
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
        known = {"now": now, "overdue": now - OVERDUE, "reconciled": now - RECONCILED}
        parameters = {name: value for name, value in known.items() if f":{name}" in invariant.sql}
        rows = [tuple(row) for row in connection.execute(statement, parameters)]
        if rows:
            found[invariant.name] = rows
    return found
