"""The command door: `sts <command>`. Rooms bring their own commands in `cli.py`."""

from __future__ import annotations

import sys
from typing import Any

import click
from flask import Flask
from flask.cli import FlaskGroup

from sts_app.accounts import cli as accounts
from sts_app.ops import cli as ops
from sts_app.settings import SettingsFault


class House(FlaskGroup):
    """Flask's command group, saying settings faults as a list and not as a trace."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except SettingsFault as fault:
            click.echo("The settings cannot be used:", err=True)
            for sentence in fault.faults:
                click.echo(f"  - {sentence}", err=True)
            sys.exit(78)


def _create_app() -> Flask:
    from sts_app import create_app

    return create_app()


main = House(
    name="sts",
    help="Run and look after an STS store.",
    create_app=_create_app,
    add_default_commands=False,
    add_version_option=False,
    load_dotenv=False,
)
for command in (*accounts.commands, *ops.commands):
    main.add_command(command)
