"""Structured logs: one event per line, with the request's or the job's id on every one."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict, Processor

SECRET_WORDS = ("token", "secret", "password", "cookie", "signature", "authorization", "session_id")


def scrub(logger: object, method: str, event: EventDict) -> EventDict:
    """Drop what must never be written down, by the name it is logged under."""
    for name in event:
        if any(word in name.lower() for word in SECRET_WORDS):
            event[name] = "[scrubbed]"
    return event


def init_logs(level: str, *, as_json: bool) -> None:
    """Send our own events and those of the libraries through one pipe to standard output."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        scrub,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # A logger that is kept does not notice a later configuration, and tests build many houses.
        cache_logger_on_first_use=as_json,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("urllib3", "stripe", "rq", "rq.worker", "rq_scheduler", "alembic", "werkzeug"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
