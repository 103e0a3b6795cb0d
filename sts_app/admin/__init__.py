"""The staff shell: one guard for every page under `/admin`, wherever its room is."""

from flask import Flask


def init_app(app: Flask) -> None:
    from sts_app.admin import views

    app.register_blueprint(views.bp)
