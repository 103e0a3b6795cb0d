"""Support: tickets with their threads and pictures, and the contact form for people without an account."""

from __future__ import annotations

from flask import Flask


def init_app(app: Flask) -> None:
    from sts_app.support.contact import bp

    app.register_blueprint(bp)
