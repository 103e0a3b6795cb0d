"""Operator commands of billing."""

from __future__ import annotations

import click

from sts_app.billing import cli_disputes, cli_events, cli_money, cli_setup, cli_subscriptions

commands: list[click.Command] = [
    *cli_money.commands,
    *cli_subscriptions.commands,
    *cli_disputes.commands,
    *cli_events.commands,
    *cli_setup.commands,
]
