"""The clock and queue door: functions RQ calls by name. They know the app and one service each."""

from __future__ import annotations

import functools
from collections.abc import Callable

import structlog
from flask import Flask
from rq import get_current_job

log = structlog.get_logger()


@functools.cache
def the_app() -> Flask:
    """This process's app. The worker makes it before it forks, so that a job does not wait for imports."""
    from sts_app import create_app

    return create_app()


def job(function: Callable[[], None]) -> Callable[[], None]:
    """Give a job its app context and its log context, and nothing else."""
    name = f"{function.__module__.removeprefix('jobs.')}.{function.__name__}"

    @functools.wraps(function)
    def run() -> None:
        current = get_current_job()
        with (
            the_app().app_context(),
            structlog.contextvars.bound_contextvars(job=name, job_id=current.id if current else None),
        ):
            function()

    return run
