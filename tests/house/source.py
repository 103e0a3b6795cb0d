"""The house's own source read as syntax, for the tests that check the house."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sts_app.core.web import ROOT

APP = ROOT / "sts_app"
JOBS = ROOT / "jobs"


@dataclass(frozen=True)
class Import:
    """`name` of `module`; `name` is empty for `import module`."""

    module: str
    name: str
    line: int


class Unreadable(Exception):
    """An argument whose value cannot be read without running the program."""


def files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree_of(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text(), str(path))
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]  # our own mark, for `_around`
    return tree


def imports(path: Path) -> list[Import]:
    """Every import of a file, those inside functions and under TYPE_CHECKING included."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, "", node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{shown(path)}:{node.lineno} imports by dots; say the full name"
            found += [Import(str(node.module), alias.name, node.lineno) for alias in node.names]
    return found


def imported_modules(path: Path) -> set[str]:
    """The modules a file imports; `from package import module` counts as the module."""
    return {
        f"{each.module}.{each.name}" if _is_module(f"{each.module}.{each.name}") else each.module
        for each in imports(path)
    }


def calls(path: Path, *names: str) -> Iterator[ast.Call]:
    """The calls of functions by these names, however they were imported."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and called(node) in names:
            yield node


def called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    by_name = next((keyword.value for keyword in call.keywords if keyword.arg == name), None)
    if by_name is None and position < len(call.args):
        return call.args[position]
    return by_name


def strings(node: ast.expr | None, path: Path) -> set[str]:
    """Every string an argument can be: a literal, a constant, what a loop goes through, what callers give.

    Raises `Unreadable` when it cannot be told: names that other processes look up must be readable.
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return strings(node.body, path) | strings(node.orelse, path)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        for module in imported_modules(path):
            if module.rpartition(".")[2] == node.value.id and _is_module(module):
                return _constant(node.attr, _path_of(module))
    if isinstance(node, ast.Name):
        return _of_loop(node, path) or _of_parameter(node, path) or _constant(node.id, path)
    raise Unreadable(f"{shown(path)}:{getattr(node, 'lineno', '?')}")


def _is_module(name: str) -> bool:
    return name.split(".")[0] in ("sts_app", "jobs") and _path_of(name).exists()


def _path_of(module: str) -> Path:
    folder = ROOT.joinpath(*module.split("."))
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def _constant(name: str, path: Path) -> set[str]:
    for statement in tree_of(path).body:
        if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == [name]:
            return strings(statement.value, path)
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == name:
            return strings(statement.value, path)
    for each in imports(path):
        if each.name == name and _is_module(each.module):
            return _constant(name, _path_of(each.module))
    raise Unreadable(f"{shown(path)}: {name}")


def _around(node: ast.AST) -> Iterator[ast.AST]:
    while (node := getattr(node, "parent", None)) is not None:  # type: ignore[assignment]  # None ends it
        yield node


def _of_loop(name: ast.Name, path: Path) -> set[str]:
    for outer in _around(name):
        if not isinstance(outer, ast.For) or not isinstance(outer.iter, (ast.Tuple, ast.List)):
            continue
        if isinstance(outer.target, ast.Name) and outer.target.id == name.id:
            return set().union(*(strings(each, path) for each in outer.iter.elts))
        if isinstance(outer.target, ast.Tuple):
            for position, target in enumerate(outer.target.elts):
                if isinstance(target, ast.Name) and target.id == name.id:
                    rows = [each for each in outer.iter.elts if isinstance(each, ast.Tuple)]
                    return set().union(*(strings(row.elts[position], path) for row in rows))
    return set()


def _of_parameter(name: ast.Name, path: Path) -> set[str]:
    for outer in _around(name):
        if not isinstance(outer, ast.FunctionDef):
            continue
        positional = [parameter.arg for parameter in outer.args.args]
        if name.id in positional or name.id in [parameter.arg for parameter in outer.args.kwonlyargs]:
            position = positional.index(name.id) if name.id in positional else 99
            given = [argument(call, position, name.id) for call in calls(path, outer.name)]
            return set().union(*(strings(each, path) for each in given))
    return set()
