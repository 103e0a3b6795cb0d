"""Access to TradingView scripts: who should have it, making it so, and proving that it is."""

from flask import Flask, current_app

from sts_app.provisioning.gateway import TradingView


def init_app(app: Flask) -> None:
    from sts_app.provisioning import dev, views

    app.extensions["sts_tradingview"] = _adapter(app)
    app.register_blueprint(views.bp)
    if app.config["STS"].provisioning_mode == "simulated":
        app.register_blueprint(dev.bp)


def tradingview() -> TradingView | None:
    """The chosen adapter, or None in manual mode, where people do the work."""
    adapter: TradingView | None = current_app.extensions["sts_tradingview"]
    return adapter


def _adapter(app: Flask) -> TradingView | None:
    settings = app.config["STS"]
    if settings.provisioning_mode == "unofficial-api":
        from sts_app.provisioning.live import AccessService

        return AccessService(
            settings.tv_access_api_url,
            session_id=settings.tv_session_id,
            signature=settings.tv_signature,
            canary=settings.tv_canary_username,
            validate_timeout=settings.tv_validate_timeout,
            call_timeout=settings.tv_call_timeout,
        )
    if settings.provisioning_mode == "simulated":
        from sts_app.core.store import store_for
        from sts_app.provisioning.simulated import SimulatedTradingView

        with app.app_context():
            return SimulatedTradingView(store_for("tradingview"))
    return None
