"""The command door: `sts <command>`. Rooms bring their own commands in `cli.py`."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import click
from flask import Flask
from flask.cli import FlaskGroup
from flask_migrate.cli import db as schema

from sts_app.accounts import cli as accounts
from sts_app.billing import cli as billing
from sts_app.billing.unpaid import unpaid_of
from sts_app.emails import cli as emails
from sts_app.ops import cli as ops
from sts_app.ops import folder
from sts_app.privacy import cli as privacy
from sts_app.provisioning import cli as provisioning
from sts_app.provisioning.cli_explain import explaining
from sts_app.settings import AppEnv, Settings, SettingsFault, load, names_of
from sts_app.support import cli as support

# What has to be done before there is a price to sell at and an address that Stripe rings.
PREPARING = frozenset({"db", "seed", "stripe-setup"})


class House(FlaskGroup):
    """Flask's command group with our commands alone, saying settings faults as a list and not as a trace.

    The commands are known without an app, so that `--help` needs no settings.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.commands)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return self.commands.get(name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with its whole first sentence, where click cuts it off."""
        with formatter.section("Commands"):
            each = sorted(self.commands.items())
            formatter.write_dl([(name, command.get_short_help_str(limit=200)) for name, command in each])

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except SettingsFault as fault:
            click.echo("The settings cannot be used:", err=True)
            for sentence in fault.faults:
                click.echo(f"  - {sentence}", err=True)
            click.echo("Beside a store that `make run` runs here, none is needed: is it running?", err=True)
            sys.exit(78)


def _create_app() -> Flask:
    from sts_app import create_app

    app = create_app(_settings_of_running() or load(dict(os.environ), preparing=_is_preparing()))
    # What a command prints is its answer, for a person or a program to read: the log is not part of it.
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)
    if not _says_all():
        logging.getLogger().setLevel(max(logging.WARNING, logging.getLogger().level))
    return app


def _says_all() -> bool:
    """Whether the log of a command was asked for, by its option or by the setting; else it warns and no more."""
    named = any(os.environ.get(name, "").strip() for name in names_of("log_level"))
    return named or bool(click.get_current_context().find_root().params.get("verbose"))


def _is_preparing() -> bool:
    """Whether the command is one of those that come before the store can run."""
    context = click.get_current_context()
    while context.parent is not None and context.parent.parent is not None:
        context = context.parent
    return context.info_name in PREPARING


def _settings_of_running() -> Settings | None:
    """The settings of the store that `sts run` runs here, when the environment names no database of its own."""
    environ = dict(os.environ)
    if any(environ.get(name, "").strip() for name in names_of("database_url")):
        return None
    found = folder.settings_of_running(folder.HOME)
    if found is None:
        return None
    if any(AppEnv.PRODUCTION in (environ.get(name), found.get(name)) for name in names_of("app_env")):
        return None
    settings = load(found)
    click.echo(f"Using the local store that runs on port {settings.port}.", err=True)
    return settings


main = House(
    name="sts",
    help="Run and look after an STS store.",
    create_app=_create_app,
    add_default_commands=False,
    add_version_option=False,
    load_dotenv=False,
    params=[click.Option(["-v", "--verbose"], is_flag=True, help="Log what is done too, to the standard error.")],
)
for command in (
    *accounts.commands,
    *provisioning.commands,
    explaining(unpaid_of),
    *billing.commands,
    *support.commands,
    *privacy.commands,
    *emails.commands,
    *ops.commands,
    schema,
):
    main.add_command(command)
