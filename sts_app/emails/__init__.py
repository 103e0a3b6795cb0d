"""Letters: stored with the deed they tell of, sent by a worker, delivered once."""

from __future__ import annotations

from flask import Flask

from sts_app.settings import Settings


def init_app(app: Flask) -> None:
    """Choose the provider. The outbox pages exist only where it is simulated."""
    from sts_app.core.security import csrf
    from sts_app.core.store import store_for
    from sts_app.emails import dev, views
    from sts_app.emails.gateway import Mailer
    from sts_app.emails.live import ResendMailer
    from sts_app.emails.simulated import SimulatedMailer

    settings: Settings = app.config["STS"]
    mailer: Mailer
    if settings.mail_vendor == "live":
        assert settings.resend_api_key is not None, "the settings refuse a live mailer without a key"
        mailer = ResendMailer(
            settings.resend_api_key,
            webhook_secrets=settings.resend_webhook_secrets,
            api_base=settings.resend_api_base,
        )
    else:
        with app.app_context():
            mailer = SimulatedMailer(
                store_for("mail"),
                webhook_secrets=settings.resend_webhook_secrets,
                webhook_url=f"http://127.0.0.1:{settings.port}/api/webhooks/resend",
            )
        app.register_blueprint(dev.bp)
    app.extensions["sts_mailer"] = mailer
    app.register_blueprint(views.webhooks)
    # A webhook proves itself by its signature; there is no browser and no cookie to forge.
    csrf.exempt(views.webhooks)
