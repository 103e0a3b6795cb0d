"""The macros of `templates/ui` are one namespace: no name twice, none asked for that is not there."""

import re
from collections import Counter

from sts_app.core.web import TEMPLATES


def macros() -> list[str]:
    return [
        name
        for path in (TEMPLATES / "ui").glob("*.html")
        for name in re.findall(r"{%-?\s*macro\s+(\w+)", path.read_text())
    ]


def test_no_macro_has_the_name_of_another():
    assert [name for name, times in Counter(macros()).items() if times > 1] == []


def test_every_macro_asked_for_is_there():
    there = set(macros())

    missing = {
        f"{path.relative_to(TEMPLATES)}: ui.{name}"
        for path in TEMPLATES.rglob("*.html")
        for name in re.findall(r"\bui\.([a-z_]+)\(", path.read_text())
        if name not in there
    }

    assert missing == set()
