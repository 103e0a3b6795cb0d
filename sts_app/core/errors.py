"""Refusals, named for what the reader should do next.

A service raises one of these; `core.web` turns it into a page, an htmx block, or JSON. `sentence` is
fit for a customer, `code` for a machine. Staff read the cause in the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Act:
    """What to do about a refusal, for the page that shows it: a link, or with `post` a deed behind a button.

    `values` is what the deed's form carries.
    """

    label: str
    address: str
    post: bool = False
    values: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """Something we will not do, with the sentence that says why and what to do instead."""

    status = 400
    code = "REFUSED"
    sentence = "That could not be done."
    title: str | None = None  # of its page, where the one of its status says too little

    def __init__(
        self,
        sentence: str | None = None,
        *,
        cause: str = "",
        retry_after: int | None = None,
        act: Act | None = None,
    ) -> None:
        self.sentence = sentence or self.sentence
        self.cause = cause
        self.retry_after = retry_after
        self.act = act
        super().__init__(cause or self.sentence)


class NotThere(Refusal):
    """Also the answer for somebody else's thing: a 403 would say that it exists."""

    status = 404
    code = "NOT_FOUND"
    sentence = "There is nothing at this address."


class SignInFirst(Refusal):
    status = 401
    code = "UNAUTHORIZED"
    sentence = "Please sign in first."


class StaffOnly(Refusal):
    status = 403
    code = "FORBIDDEN"
    sentence = "This part of the store is for its staff."


class FixInput(Refusal):
    status = 422
    code = "INVALID_INPUT"
    sentence = "Something in the form needs another look."


class AlreadyDone(Refusal):
    status = 409
    code = "ALREADY_DONE"
    sentence = "That has already been done."


class SlowDown(Refusal):
    status = 429
    code = "RATE_LIMIT"
    sentence = "That was too many tries in a short time. Please wait a little and try again."


class NotNow(Refusal):
    """A neighbour of ours does not answer; the same click will work later."""

    status = 503
    code = "TRY_LATER"
    sentence = "A service we depend on is not answering. Nothing was charged. Please try again in a minute."
