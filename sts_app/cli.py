"""The command door: `sts <command>`. Rooms bring their own commands in `cli.py`."""

from __future__ import annotations

import sys

import click
from flask.cli import FlaskGroup, ScriptInfo

from sts_app.settings import SettingsFault


class House(FlaskGroup):
    """Flask's command group, saying settings faults as a list and not as a trace."""

    def main(self, *args: object, **kwargs: object) -> object:
        try:
            return super().main(*args, **kwargs)  # type: ignore[arg-type]
        except SettingsFault as fault:
            click.echo("The settings cannot be used:", err=True)
            for sentence in fault.faults:
                click.echo(f"  - {sentence}", err=True)
            sys.exit(78)


def _create_app() -> object:
    from sts_app import create_app

    return create_app()


main = House(name="sts", create_app=_create_app, add_version_option=False, load_dotenv=False)  # type: ignore[arg-type]
main.help = "Run and look after an STS store."

__all__ = ["ScriptInfo", "main"]
