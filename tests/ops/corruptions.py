"""Single statements that spoil a sound world, each with the invariant that has to notice it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Corruption:
    """One statement that spoils the sound world, and the invariant that notices.

    `loosen` takes away a constraint that would not let it happen.
    """

    invariant: str
    deed: str
    sql: str
    loosen: tuple[str, ...] = ()


def first(name: str, state: str = "") -> str:
    """The first pair under a TradingView name, in a state if given, as a condition."""
    held = f"state = '{state}' AND " if state else ""
    return f"id = (SELECT min(id) FROM grants WHERE {held}name_key = '{name}')"


def of_first(name: str, state: str = "") -> str:
    return first(name, state).replace("id = (", "grant_id = (", 1)


_NO_ROW = "no desired pair without a grant row"
_STILL = "no wanted pair that is not moving, verified, or waiting for a named person"
_FAILED = "no failed pair without a person who said that it cannot be done"
_PROOF = "no verified access without evidence newer than its last grant"
_ABSENCE = "no absent pair without evidence newer than its end, unless nothing was ever sent for it"
_UNWANTED = "no unwanted pair that is neither being revoked, with a person, nor absent"
_ENDED = "no pair that keeps being wanted after its entitlements ended"
_FORMER = "no former name or script kept after what replaces it was verified"
_JOB = "no pair without the job of its present cycle"
_SAYS = "no job that says otherwise than its pair"
_TASK = "no open task on a pair that is settled or has turned"
_SIGNED = "no task that a person ended without their name"
_SAID = "no pair that a person says was done without their task"
_LEASE = "no open attempt without its lease, and no lease without its open attempt"
_SWITCH = "no switch that an incident moved after the incident, and none at AUTO during one"
_CANARY = "no open circuit without the time of its next canary"
_INCIDENT = "no incident closed without a person"
_OLD_LEASE = "no lease older than its length"
_DUE = "no due event or letter older than five minutes"
_UNHANDLED = "no stored event unhandled without an end state"

_EVENT = (
    "INSERT INTO webhook_event (source, external_id, type, live, occurred_at, payload, state, tries, refusals, "
    "created_at, next_attempt_at) "
    "VALUES ('stripe', 'evt_1', 'x', false, :now, '{{}}', 'received', {tries}, 0, {created}, {due})"
)

_OF_CAROL = "purchase_id = (SELECT id FROM purchase WHERE status = 'REFUNDED')"

CORRUPTIONS = (
    # Money and reasons.
    Corruption(
        "no completed purchase without its entitlement",
        "an entitlement gets another source",
        "UPDATE entitlement SET source = 'gift:' || id WHERE source LIKE 'purchase:%'",
    ),
    Corruption(
        "no refunded purchase that still entitles",
        "a purchase is refunded alone",
        "UPDATE purchase SET status = 'REFUNDED' WHERE status = 'COMPLETED'",
    ),
    Corruption(
        "no refunded purchase that still entitles",
        "an ended entitlement comes back",
        "UPDATE entitlement SET ends_at = NULL, ended_because = NULL WHERE ended_because IS NOT NULL",
    ),
    Corruption(
        "no two open purchases of one plan per person",
        "a paid purchase turns into two open ones",
        "INSERT INTO purchase (ref, user_id, plan_id, amount_cents, currency, checkout_expires_at, "
        "status, created_at, refunded_cents, "
        "checkout_attempt, look_ups) "
        "SELECT 'pur_' || n, user_id, plan_id, 9900, 'usd', :now, 'PENDING', :now, 0, 1, 0 "
        "FROM purchase, generate_series(1, 2) n WHERE status = 'REFUNDED'",
        ("DROP INDEX uq_purchase_open",),
    ),
    Corruption(
        "no purchase whose status says otherwise than its refunds",
        "a refund is forgotten",
        f"DELETE FROM refund WHERE {_OF_CAROL}",
    ),
    Corruption(
        "no purchase whose status says otherwise than its refunds",
        "a refund fails and nobody restores the purchase",
        f"UPDATE refund SET state = 'failed' WHERE {_OF_CAROL}",
    ),
    Corruption(
        "no purchase whose status says otherwise than its refunds",
        "a cent is lost",
        "UPDATE purchase SET refunded_cents = refunded_cents - 1 WHERE status = 'PARTIALLY_REFUNDED'",
    ),
    Corruption(
        "no purchase whose access says otherwise than its money",
        "a dispute is lost and access rests only",
        "UPDATE dispute SET status = 'lost'",
    ),
    Corruption(
        "no purchase whose access says otherwise than its money",
        "somebody unpaid is to have access",
        "UPDATE purchase SET status = 'FAILED', refunded_cents = 0 WHERE access = 'suspended'",
    ),
    Corruption(
        "no entitlement that holds against the money of its purchase",
        "a disputed purchase is resumed by nobody",
        "UPDATE entitlement SET suspended_at = NULL, suspended_because = NULL WHERE suspended_at IS NOT NULL",
    ),
    Corruption(
        "no entitlement that holds against the money of its purchase",
        "a dispute was won and access rests still",
        "UPDATE purchase SET access = 'stands' WHERE access = 'suspended'",
    ),
    Corruption(
        "no entitlement that holds against its subscription",
        "a subscription ends alone",
        "UPDATE subscription SET state = 'ended', status = 'canceled'",
    ),
    Corruption(
        "no entitlement that holds against its subscription",
        "a running subscription gives nothing",
        "UPDATE entitlement SET source = 'gift:' || id WHERE source LIKE 'subscription:%'",
    ),
    Corruption(
        "no more given back than came in",
        "a second refund is intended",
        "INSERT INTO refund (purchase_id, ref, amount_cents, currency, state, reason, asked_by, attempt, tries, "
        "next_attempt_at, created_at) SELECT id, 'ref_2', 9900, 'usd', 'intended', 'x', 'x', 1, 0, :now, :now "
        "FROM purchase WHERE status = 'REFUNDED'",
    ),
    Corruption(
        "no refund of a purchase that brought no money",
        "a refund in another currency",
        f"UPDATE refund SET currency = 'eur' WHERE {_OF_CAROL}",
    ),
    Corruption(
        "no intended refund without the time at which it is sent",
        "an intended refund is never sent",
        f"UPDATE refund SET state = 'intended', next_attempt_at = NULL WHERE {_OF_CAROL}",
    ),
    Corruption(
        "no refund that nobody asked for, and none of ours without a reason",
        "nobody says why",
        f"UPDATE refund SET reason = NULL WHERE {_OF_CAROL}",
    ),
    Corruption(
        "no payment without the time at which it came",
        "a payment loses its time",
        "UPDATE purchase SET paid_at = NULL WHERE status = 'REFUNDED'",
    ),
    Corruption(
        "no purchase without what its buyer agreed to",
        "a consent is lost",
        "DELETE FROM consent WHERE purchase_id = (SELECT max(purchase_id) FROM consent)",
    ),
    Corruption(
        "no due refund, evidence or subscription older than five minutes",
        "a refund waits for nobody",
        f"UPDATE refund SET state = 'intended', next_attempt_at = :long_ago WHERE {_OF_CAROL}",
    ),
    Corruption(
        "no due refund, evidence or subscription older than five minutes",
        "a subscription is looked at by nobody",
        "UPDATE subscription SET next_look_up_at = :long_ago",
    ),
    # What should stand, and what does.
    Corruption(_NO_ROW, "a pair changes its script", f"UPDATE grants SET script_id = 'PUB;x' WHERE {first('anna')}"),
    Corruption(_NO_ROW, "a pair changes its name", f"UPDATE grants SET name_key = 'nobody' WHERE {first('anna')}"),
    Corruption(_NO_ROW, "a pair is not wanted any more", f"UPDATE grants SET wanted = false WHERE {first('bobby2')}"),
    Corruption(
        _NO_ROW,
        "a strategy goes on sale and no sweep comes",
        "UPDATE strategy SET script_id = 'PUB;another', updated_at = :days_ago WHERE slug = 'nq-power-hour'",
    ),
    Corruption(
        _NO_ROW,
        "a plan with a list covers more and no sweep comes",
        "WITH aged AS (UPDATE strategy SET updated_at = :days_ago WHERE slug = 'nq-power-hour' RETURNING id), "
        "plan AS (INSERT INTO plan (slug, name, price_cents, currency, covers_all, active, position, created_at) "
        "VALUES ('listed', 'Listed', 1, 'usd', false, false, 1, :now) RETURNING id), "
        "covers AS (INSERT INTO plan_strategy (plan_id, strategy_id, created_at) "
        "SELECT plan.id, aged.id, :now FROM plan, aged) "
        "INSERT INTO entitlement (user_id, plan_id, source, starts_at, created_at) "
        "SELECT carol.id, plan.id, 'gift:carol', :now, :now FROM plan, users carol WHERE carol.email LIKE 'carol@%'",
    ),
    Corruption(_STILL, "a pair is tried no more", f"UPDATE grants SET next_attempt_at = NULL WHERE {first('bobby2')}"),
    Corruption(_STILL, "a wanted pair is taken for gone", f"UPDATE grants SET state = 'absent' WHERE {first('anna')}"),
    Corruption(_STILL, "a wanted pair is removed", f"UPDATE grants SET state = 'revoking' WHERE {first('anna')}"),
    Corruption(
        _STILL,
        "a task is closed and its pair left behind",
        f"UPDATE manual_task SET closed_at = :now WHERE {of_first('dora', 'with_staff')} AND closed_at IS NULL",
    ),
    Corruption(_FAILED, "a pair fails by itself", f"UPDATE grants SET state = 'failed' WHERE {first('bobby2')}"),
    Corruption(_FAILED, "nobody gave up", "UPDATE manual_task SET outcome = 'done' WHERE outcome = 'cannot'"),
    Corruption(
        _FAILED, "somebody gave up an earlier cycle", "UPDATE manual_task SET cycle = 0 WHERE outcome = 'cannot'"
    ),
    Corruption(_PROOF, "the evidence is lost", f"UPDATE grants SET evidence = NULL WHERE {first('anna')}"),
    Corruption(_PROOF, "the evidence is old", f"UPDATE grants SET verified_at = :days_ago WHERE {first('anna')}"),
    Corruption(
        _PROOF,
        "a pair calls itself verified that was never read",
        f"UPDATE grants SET state = 'verified' WHERE {first('bobby2')}",
    ),
    Corruption(_ABSENCE, "nobody read the absence", f"UPDATE grants SET absent_at = NULL WHERE {first('carol')}"),
    Corruption(
        _ABSENCE,
        "the absence was read before the end",
        f"UPDATE grants SET absent_at = :days_ago WHERE {first('carol')}",
    ),
    Corruption(
        _UNWANTED, "an ended pair stays verified", f"UPDATE grants SET state = 'verified' WHERE {first('carol')}"
    ),
    Corruption(_UNWANTED, "a removal stands still", f"UPDATE grants SET state = 'revoking' WHERE {first('carol')}"),
    Corruption(_ENDED, "an entitlement is ended alone", "UPDATE entitlement SET ends_at = :now, ended_because = 'x'"),
    Corruption(_ENDED, "an end came long ago", "UPDATE entitlement SET ends_at = :long_ago WHERE source = 'gift:bob'"),
    Corruption(_ENDED, "a suspension is written alone", "UPDATE entitlement SET suspended_at = :now"),
    Corruption(
        _ENDED,
        "a plan covers less and no sweep comes",
        "WITH aged AS (UPDATE strategy SET updated_at = :days_ago RETURNING id) "
        "UPDATE plan SET covers_all = false WHERE EXISTS (SELECT 1 FROM aged)",
    ),
    Corruption(_ENDED, "a refunded pair is wanted again", f"UPDATE grants SET wanted = true WHERE {first('carol')}"),
    Corruption(
        _ENDED,
        "a name is given free with its access",
        "UPDATE tradingview_name SET released_at = :now WHERE name_key = 'bobby'",
    ),
    Corruption(
        _FORMER,
        "the new name is verified and the old one stays",
        "UPDATE grants SET state = 'verified', verified_at = :now, evidence = 'x' WHERE name_key = 'bobby2'",
    ),
    Corruption(
        _FORMER,
        "a script becomes a former one of another strategy",
        "INSERT INTO former_script (strategy_id, script_id, created_at) SELECT one.id, other.script_id, :now "
        "FROM strategy one, strategy other WHERE one.slug = 'nq-trend-rider' AND other.slug = 'nq-breakout-pro'",
    ),
    Corruption(
        "no name still held by somebody who has no current one",
        "a name is replaced by none",
        "UPDATE tradingview_name SET replaced_at = :now WHERE name_key = 'anna'",
    ),
    # Cycles, tries and tasks.
    Corruption(
        _JOB,
        "a job is lost",
        f"DELETE FROM provisioning_job WHERE {of_first('anna')}",
        ("ALTER TABLE provisioning_attempt DROP CONSTRAINT fk_provisioning_attempt_job_id",),
    ),
    Corruption(_JOB, "a cycle is skipped", f"UPDATE grants SET cycle = cycle + 1 WHERE {first('bobby2')}"),
    Corruption(
        _JOB, "a job was to reach the contrary", f"UPDATE provisioning_job SET wanted = false WHERE {of_first('anna')}"
    ),
    Corruption(
        _SAYS,
        "a job is left open",
        f"UPDATE provisioning_job SET state = 'open', closed_at = NULL WHERE {of_first('anna')}",
    ),
    Corruption(
        _SAYS,
        "a promise is called kept that is not",
        f"UPDATE provisioning_job SET state = 'reached', closed_at = :now WHERE {of_first('bobby2')}",
    ),
    Corruption(
        _SAYS, "a job ends at no time", f"UPDATE provisioning_job SET closed_at = NULL WHERE {of_first('anna')}"
    ),
    Corruption(
        _SAYS,
        "the job of an earlier cycle stays open",
        "UPDATE provisioning_job SET state = 'open', closed_at = NULL WHERE cycle = 1 AND " + of_first("carol"),
    ),
    Corruption(
        _TASK,
        "a settled pair keeps its task",
        "UPDATE manual_task SET closed_at = NULL, outcome = NULL, closed_by = NULL WHERE outcome = 'done'",
    ),
    Corruption(
        _TASK,
        "a task is about the contrary",
        f"UPDATE manual_task SET wanted = false WHERE closed_at IS NULL AND {of_first('dora', 'with_staff')}",
    ),
    Corruption(_SIGNED, "nobody signed", "UPDATE manual_task SET closed_by = NULL WHERE outcome = 'cannot'"),
    Corruption(_SIGNED, "the machine signed", "UPDATE manual_task SET closed_by = 'system' WHERE outcome = 'done'"),
    Corruption(_SAID, "somebody else said it", "UPDATE grants SET said_by = 'user:8' WHERE said_by IS NOT NULL"),
    Corruption(_SAID, "nobody was asked", f"UPDATE grants SET said_by = 'user:7' WHERE {first('bobby2')}"),
    Corruption(
        "no two calls in flight for one pair",
        "two workers try one pair",
        "INSERT INTO provisioning_attempt (grant_id, job_id, lease_token, wanted, created_at) "
        "SELECT grant_id, id, 'lease', true, :now FROM provisioning_job, generate_series(1, 2) "
        f"WHERE {of_first('anna')}",
        ("DROP INDEX uq_provisioning_attempt_in_flight",),
    ),
    Corruption(
        _LEASE,
        "an attempt is open without a lease",
        "UPDATE provisioning_attempt SET finished_at = NULL WHERE id = (SELECT min(id) FROM provisioning_attempt)",
    ),
    Corruption(
        _LEASE,
        "a lease has no attempt",
        f"UPDATE grants SET lease_token = 'lease', leased_until = :now WHERE {first('bobby2')}",
    ),
    # What stands between us and TradingView.
    Corruption(
        "no two credential sets in use",
        "a retired set comes back",
        "UPDATE tradingview_credential SET retired_at = NULL",
        ("DROP INDEX uq_tradingview_credential_active",),
    ),
    Corruption(
        "no two incidents open",
        "two incidents are open",
        "INSERT INTO provisioning_incident (reason, told, refusals, last_refused_at, created_at) "
        "SELECT 'x', '[]', 1, :now, :now FROM generate_series(1, 2)",
        ("DROP INDEX uq_provisioning_incident_open",),
    ),
    Corruption(_INCIDENT, "an incident closes by itself", "UPDATE provisioning_incident SET closed_by = NULL"),
    Corruption(_INCIDENT, "the machine closes an incident", "UPDATE provisioning_incident SET closed_by = 'system'"),
    Corruption(
        _SWITCH,
        "the switch stays where a closed incident put it",
        "UPDATE provisioning_control SET switch = 'MANUAL', "
        "switched_by = (SELECT 'incident:' || max(id) FROM provisioning_incident)",
    ),
    Corruption(
        _SWITCH,
        "an incident opens and the machine goes on",
        "INSERT INTO provisioning_incident (reason, told, refusals, last_refused_at, created_at) "
        "VALUES ('x', '[]', 1, :now, :now)",
    ),
    Corruption(_CANARY, "a circuit opens for ever", "UPDATE provisioning_control SET circuit_opened_at = :now"),
    Corruption(_CANARY, "a canary flies for nothing", "UPDATE provisioning_control SET canary_at = :now"),
    Corruption(
        "no reconciliation under way for longer than it may take",
        "a run never ends",
        "UPDATE reconciliation_run SET state = 'running', created_at = :long_ago",
    ),
    # Letters, events and leases.
    Corruption(
        "no letter written twice under one key",
        "a letter is there twice",
        "UPDATE email_message SET key = 'one'",
        ("ALTER TABLE email_message DROP CONSTRAINT uq_email_message_key",),
    ),
    Corruption(
        "no secret letter kept after it was sent",
        "a secret is kept",
        "UPDATE email_message SET secret = true WHERE state = 'sent'",
        ("ALTER TABLE email_message DROP CONSTRAINT ck_email_message_secret_blank_when_done",),
    ),
    Corruption(
        "no needed letter kept back from an address that takes letters",
        "a letter is kept back for nothing",
        "UPDATE email_message SET state = 'withheld', sent_at = NULL WHERE state = 'sent' AND NOT secret",
    ),
    Corruption(
        "no letter sent without what was told of it",
        "what was told of a letter is not marked on it",
        "INSERT INTO mail_event (external_id, provider_id, happened, at, words, created_at) "
        "SELECT 'msg_1', provider_id, 'bounced', :now, '', :now FROM email_message WHERE state = 'sent' LIMIT 1",
    ),
    Corruption(
        _OLD_LEASE,
        "a lease on a pair is forgotten",
        f"UPDATE grants SET lease_token = 'lease', leased_until = :long_ago WHERE {first('bobby2')}",
    ),
    Corruption(
        _OLD_LEASE,
        "a lease on a purchase is forgotten",
        "UPDATE purchase SET lease_token = 'lease', leased_until = :long_ago",
    ),
    Corruption(
        "no due pair older than five minutes while nothing is tried",
        "nobody tries what is due",
        "WITH slept AS (UPDATE provisioning_attempt SET created_at = :long_ago RETURNING id) "
        f"UPDATE grants SET next_attempt_at = :long_ago WHERE {first('bobby2')} AND EXISTS (SELECT 1 FROM slept)",
    ),
    Corruption(
        _DUE,
        "a letter is not sent",
        "UPDATE email_message SET state = 'queued', sent_at = NULL, next_attempt_at = :long_ago WHERE state = 'sent'",
    ),
    Corruption(_DUE, "an event is not worked on", _EVENT.format(tries=1, created=":now", due=":long_ago")),
    Corruption(_UNHANDLED, "an event is looked at no more", _EVENT.format(tries=1, created=":now", due="NULL")),
    Corruption(_UNHANDLED, "an event was never tried", _EVENT.format(tries=0, created=":long_ago", due=":now")),
    Corruption(
        "no closed account that somebody is signed in to",
        "a session outlives its account",
        "WITH session AS (INSERT INTO user_session (user_id, digest, expires_at, created_at) "
        "SELECT min(id), 'of nobody', :now, :now FROM users RETURNING user_id) "
        "UPDATE users SET closed_at = :now WHERE id IN (SELECT user_id FROM session)",
    ),
    Corruption(
        "no closed account with a reason for access that holds",
        "an account closes and its access is forgotten",
        "UPDATE users SET closed_at = :now",
    ),
    Corruption(
        "no account that says otherwise than its erasure",
        "nobody knows why somebody may not buy",
        "UPDATE users SET leaving_at = :now",
    ),
    Corruption(
        "nobody erased who still has an address, a name or a customer at Stripe",
        "somebody is called erased and is not",
        "UPDATE users SET erased_at = :now",
    ),
    Corruption(
        "no pair under an erased name that is not absent",
        "a name is erased before its access is gone",
        f"UPDATE grants SET name_key = 'erased:1' WHERE {first('anna')}",
    ),
)
