"""What the store sells: strategies, and the plans they are sold in."""

from __future__ import annotations

from flask import Flask


def init_app(app: Flask) -> None:
    from sts_app.catalog.views import bp

    app.register_blueprint(bp)
