"""The HTTP door."""

from sts_app import create_app

app = create_app()
