"""What a person may ask of us about their data: a copy of everything, and to be erased. Spans all rooms."""

from __future__ import annotations

from flask import Flask


def init_app(app: Flask) -> None:
    from sts_app.privacy import views

    app.register_blueprint(views.bp)
