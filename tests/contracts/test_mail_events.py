"""The simulated provider's events against the shapes of Resend's own package, its signature against Svix's examples."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

import pytest
import resend
import time_machine
from resend.webhooks import _webhook_event as shapes

from sts_app.core.store import MemoryStore
from sts_app.emails import simulated_post
from sts_app.emails.gateway import BadSignature, Happened, Letter, LetterEvent
from sts_app.emails.live_events import read_signed_event
from sts_app.emails.simulated import SimulatedMailer, delivered
from sts_app.emails.simulated_post import signed_headers

# Secret, id, timestamp, body and signature as Svix's documentation and the tests of its libraries print them. The
# secrets are put together here, because they look like real ones.
PRINTED = [
    (
        "whsec_" + "plJ3nmyCDGBKInavdOK15jsl",
        "msg_loFOjxBNrRLzqYUf",
        1731705121,
        '{"event_type":"ping","data":{"success":true}}',
        "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
    ),
    (
        "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        '{"test": 2432232314}',
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
]
LETTER = Letter("STS <hello@sts.test>", "alice@customers.test", "Ready", "Text", "<p>Text</p>", "access_granted")
SHAPES = {
    "email.delivered": shapes.EmailDeliveredEvent,
    "email.delivery_delayed": shapes.EmailDeliveryDelayedEvent,
    "email.failed": shapes.EmailFailedEvent,
    "email.suppressed": shapes.EmailSuppressedEvent,
    "email.bounced": shapes.EmailBouncedEvent,
    "email.complained": shapes.EmailComplainedEvent,
}


class Ear:
    """Whoever is rung: keeps what it was told."""

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, dict[str, str]]] = []

    def __call__(self, url: str, *, data: bytes, headers: dict[str, str], **_: Any) -> Any:
        self.heard.append((data, headers))
        return type("Answer", (), {"status_code": 200})


def told(happened: Happened) -> tuple[bytes, dict[str, str], str]:
    """The body and headers that the simulator rings with when this happens, and the letter's id there."""
    ear = Ear()
    mailer = SimulatedMailer(MemoryStore(), webhook_secrets=(PRINTED[0][0],), webhook_url="http://here", post=ear)
    letter_id = mailer.send(LETTER, "key")
    mailer.tell(letter_id, happened)
    [(body, headers)] = ear.heard
    return body, headers, letter_id


def differences(value: Any, shape: Any, where: str = "event") -> list[str]:
    """How a piece of JSON differs from one of the package's types: keys that lack or are unknown, and other kinds."""
    found = []
    hints = get_type_hints(shape)
    found += [f"{where}.{key} lacks" for key in shape.__required_keys__ - value.keys()]
    found += [f"{where}.{key} is unknown" for key in value.keys() - hints.keys()]
    for key in value.keys() & hints.keys():
        hint, given = hints[key], value[key]
        if hasattr(hint, "__required_keys__"):
            found += differences(given, hint, f"{where}.{key}")
        elif get_args(hint) and isinstance(given, str):
            found += [] if given in get_args(hint) else [f"{where}.{key} is {given}"]
        elif hint is str and not isinstance(given, str):
            found.append(f"{where}.{key} is no text")
    return found


@pytest.mark.parametrize("happened", Happened)
def test_an_event_has_the_shape_that_the_package_names(happened):
    event = json.loads(told(happened)[0])

    assert differences(event, SHAPES[event["type"]]) == []


def test_the_ruler_finds_what_differs():
    event = json.loads(told(Happened.BOUNCED)[0])
    del event["data"]["bounce"]["subType"]
    event["data"]["stray"] = 1
    event["type"] = "email.lost"

    assert sorted(differences(event, shapes.EmailBouncedEvent)) == [
        "event.data.bounce.subType lacks",
        "event.data.stray is unknown",
        "event.type is email.lost",
    ]


@pytest.mark.parametrize("happened", Happened)
def test_the_package_accepts_the_signature_and_we_read_what_was_meant(happened):
    body, headers, letter_id = told(happened)

    given = {name: headers[f"svix-{name}"] for name in ("id", "timestamp", "signature")}
    assert resend.Webhooks.verify({"payload": body.decode(), "headers": given, "webhook_secret": PRINTED[0][0]})
    event = read_signed_event(body, headers, (PRINTED[0][0],))
    assert isinstance(event, LetterEvent)
    assert (event.provider_id, event.happened) == (letter_id, happened)


@pytest.mark.parametrize(("secret", "event_id", "stamp", "body", "signature"), PRINTED)
def test_signing_and_verifying_are_svixs_own(secret, event_id, stamp, body, signature):
    at = datetime.fromtimestamp(stamp, UTC)
    headers = signed_headers(event_id, body, secret, at=at)
    assert headers["svix-signature"] == signature

    with time_machine.travel(at, tick=False):
        assert read_signed_event(body.encode(), headers, (secret,)) is None, "signed, and nothing of a letter"
        with pytest.raises(BadSignature):
            read_signed_event(body.encode() + b" ", headers, (secret,))


def test_every_event_about_a_letters_fate_is_known():
    """A new one of the package's should be thought about; those that are none of our business are named here."""
    known = {kind for kind in get_args(shapes_of_kinds()) if kind.startswith("email.")}

    assert known - set(simulated_post.KINDS.values()) == {
        "email.sent", "email.scheduled", "email.opened", "email.clicked", "email.received",
    }  # fmt: skip


def shapes_of_kinds() -> Any:
    from resend.webhooks._webhook import WebhookEvent

    return WebhookEvent


def test_a_suppressed_letter_is_told_of_by_itself():
    ear = Ear()
    store = MemoryStore()
    mailer = SimulatedMailer(store, webhook_secrets=(PRINTED[0][0],), webhook_url="http://here", post=ear)
    mailer.tell(mailer.send(LETTER, "one"), Happened.COMPLAINED)
    mailer.send(LETTER, "two")
    mailer.send(LETTER, "two")

    assert [json.loads(body)["type"] for body, _ in ear.heard] == ["email.complained", "email.suppressed"]
    assert len(delivered(store)) == 1
