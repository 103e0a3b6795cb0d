"""What may be sent to Stripe, derived from the typed parameters of the installed package."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

import typing_extensions
from stripe import RequestOptions
from stripe._stripe_object import UntypedStripeObject

# The names a caller may give to the package itself; they are never sent.
_NOT_SENT = frozenset(RequestOptions.__annotations__)


class Problem(Exception):
    """An answer that is an error, in Stripe's words. `kept` ones are remembered under their idempotency key."""

    def __init__(
        self, status: int, message: str, *, kind: str = "invalid_request_error", kept: bool = False, **fields: str
    ) -> None:
        self.status = status
        self.kept = kept
        self.body = {"error": {"type": kind, "message": message, **fields}}
        super().__init__(message)


def missing(what: str, thing_id: str, param: str, status: int = 400) -> Problem:
    """Stripe's answer about what it does not know: 404 for what the address names, 400 for what is sent."""
    return Problem(status, f"No such {what}: '{thing_id}'", code="resource_missing", param=param)


def unfold(form: str) -> dict[str, Any]:
    """`a[b][0][c]=x` becomes `{"a": {"b": [{"c": "x"}]}}`."""
    root: dict[str, Any] = {}
    for name, value in parse_qsl(form, keep_blank_values=True):
        path = [part for part in re.split(r"[\[\]]+", name) if part]
        here = root
        for part in path[:-1]:
            here = here.setdefault(part, {})
        here[path[-1]] = value
    return {name: _listed(value) for name, value in root.items()}


def check(params: dict[str, Any], shape: Any, where: str = "") -> None:
    """Raise the error Stripe raises if `params` are not what the package's typed parameters allow."""
    allowed = _hints(shape)
    for name in shape.__required_keys__ & allowed.keys():
        if name not in params:
            path = _path(where, name)
            raise Problem(400, f"Missing required param: {path}.", code="parameter_missing", param=path)
    for name, value in params.items():
        path = _path(where, name)
        if name not in allowed:
            raise Problem(400, f"Received unknown parameter: {path}", code="parameter_unknown", param=path)
        _check_value(value, allowed[name], path)


@cache
def _hints(shape: Any) -> dict[str, Any]:
    names = {"StripeContext": object, "Mapping": Mapping, "UntypedStripeObject": UntypedStripeObject}
    hints = typing_extensions.get_type_hints(shape, localns={**vars(typing), **names})
    return {name: hint for name, hint in hints.items() if name not in _NOT_SENT}


def _check_value(value: Any, hint: Any, path: str) -> None:
    problems = []
    options = _options(hint)
    words = [option for option in options if typing_extensions.get_origin(option) is typing.Literal]
    closed = any(typing_extensions.get_args(option) != ("",) for option in words)
    # The package leaves its enums open (`Literal | str`); the API does not.
    for option in [one for one in options if not (closed and one is str)]:
        try:
            _check_option(value, option, path)
        except Problem as problem:
            problems.append(problem)
        else:
            return
    # The reading that went deepest was meant.
    raise max(problems, key=lambda problem: len(problem.body["error"]["param"]))


def _check_option(value: Any, option: Any, path: str) -> None:
    origin, args = typing_extensions.get_origin(option), typing_extensions.get_args(option)
    fits = True
    if typing_extensions.is_typeddict(option):
        if isinstance(value, dict):
            check(value, option, path)
            return
        fits = False
    elif origin is list:
        fits = isinstance(value, list)
        for index, item in enumerate(value if fits else []):
            _check_value(item, args[0], f"{path}[{index}]")
    elif origin is dict:
        fits = isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    elif origin is typing.Literal:
        fits = value in args
    elif option is int:
        fits = isinstance(value, str) and re.fullmatch(r"-?\d+", value) is not None
    elif option is bool:
        fits = value in ("true", "false")
    elif option is str:
        fits = isinstance(value, str)
        if value == "":
            raise Problem(400, f"An empty string for '{path}'.", code="parameter_invalid_empty", param=path)
    else:
        fits = option is Any
    if not fits:
        raise Problem(400, f"Invalid value for {path}", code="parameter_invalid", param=path)


def _options(hint: Any) -> list[Any]:
    if typing_extensions.get_origin(hint) in (typing.Union, types.UnionType):
        return [option for part in typing_extensions.get_args(hint) for option in _options(part)]
    return [hint]


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(name.isdigit() for name in value):
        return [_listed(value[name]) for name in sorted(value, key=int)]
    return {name: _listed(item) for name, item in value.items()}


def _path(where: str, name: str) -> str:
    return f"{where}[{name}]" if where else name
