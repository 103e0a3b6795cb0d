"""A mailbox that is empty at the start of each test, and a letter to put into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from jinja2 import ChoiceLoader, DictLoader

from sts_app.core.store import MemoryStore
from sts_app.emails import services
from sts_app.emails.simulated import SimulatedMailer

TEMPLATES = {
    "emails/letters/parcel.txt": """\
{% extends "emails/letter.txt" %}
{% block content %}
Hello {{ name }}, your parcel is at {{ public_url }}/parcels/7 & waits.
{% endblock %}
""",
    "emails/letters/parcel.html": """\
{% extends "emails/letter.html" %}
{% from "emails/pieces.html" import button %}
{% block preheader %}It waits.{% endblock %}
{% block content %}
<h1>Hello {{ name }}</h1>
{{ button("Fetch it", public_url ~ "/parcels/7") }}
{% endblock %}
""",
    "emails/letters/half.txt": "No HTML twin.",
}


@pytest.fixture
def mailbox(app: Flask, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """What the simulated provider remembers; `simulated.delivered` reads it."""
    store = MemoryStore()
    monkeypatch.setitem(app.extensions, "sts_stores", {"mail": store})
    monkeypatch.setitem(app.extensions, "sts_mailer", SimulatedMailer(store))
    return store


@pytest.fixture
def post(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """`services.post` with everything given that a test does not care about."""
    own = DictLoader(TEMPLATES)
    monkeypatch.setattr(app.jinja_env, "loader", ChoiceLoader([own, app.jinja_env.loader]))

    def post(**changes: Any) -> bool:
        given: dict[str, Any] = {
            "key": "parcel:7",
            "kind": "parcel",
            "to": "alice@customers.test",
            "subject": "Your parcel",
            "template": "emails/letters/parcel",
            "context": {"name": "Alice"},
        }
        return services.post(**(given | changes))

    return post
