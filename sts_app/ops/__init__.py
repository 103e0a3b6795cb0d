"""Keeping the store alive: health, the minute sweep, invariants, doctor, the local stack and the demo."""

from flask import Flask


def init_app(app: Flask) -> None:
    from sts_app.ops import views

    app.register_blueprint(views.bp)
    if not app.config["STS"].is_production:
        from sts_app.ops import dev

        app.register_blueprint(dev.bp)
