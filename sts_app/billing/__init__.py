"""Money: checkout, purchases, and the inbox of signed events. A payment leads to access, never the reverse."""

from flask import Flask


def init_app(app: Flask) -> None:
    from sts_app.billing import views
    from sts_app.core.security import csrf

    app.extensions["sts_payments"] = _adapter(app)
    app.register_blueprint(views.bp)
    app.register_blueprint(views.webhooks)
    # A webhook proves itself by its signature; there is no browser and no cookie to forge.
    csrf.exempt(views.webhooks)
    if app.config["STS"].payments_vendor == "simulated":
        from sts_app.billing import dev

        app.register_blueprint(dev.bp)


def _adapter(app: Flask) -> object:
    settings = app.config["STS"]
    if settings.payments_vendor == "live":
        from sts_app.billing.live import StripePayments

        return StripePayments(
            settings.stripe_secret_key,
            webhook_secrets=settings.stripe_webhook_secrets,
            api_base=settings.stripe_api_base,
        )
    from sts_app.billing.simulated import SimulatedPayments
    from sts_app.core.store import store_for

    with app.app_context():
        return SimulatedPayments(
            store_for("payments"),
            webhook_secrets=settings.stripe_webhook_secrets,
            webhook_url=f"http://127.0.0.1:{settings.port}/api/webhooks/stripe",
            public_url=settings.public_url,
        )
