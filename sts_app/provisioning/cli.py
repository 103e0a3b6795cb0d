"""Operator commands of provisioning; `sts explain` is put together where billing is known."""

from __future__ import annotations

import click

from sts_app.provisioning import (
    cli_access,
    cli_control,
    cli_credentials,
    cli_plans,
    cli_reconcile,
    cli_strategies,
    cli_tasks,
)

commands: list[click.Command] = [
    *cli_access.commands,
    *cli_control.commands,
    *cli_tasks.commands,
    *cli_credentials.commands,
    *cli_reconcile.commands,
    *cli_strategies.commands,
    *cli_plans.commands,
]
