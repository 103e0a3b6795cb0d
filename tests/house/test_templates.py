"""Every template compiles, is named rightly, and holds to what a strict browser and a scriptless one need."""

from __future__ import annotations

import re

import pytest
from jinja2 import Environment, FileSystemLoader, nodes

from sts_app.core.web import STATIC, TEMPLATES
from tests.house.source import APP, Unreadable, argument, called, calls, files, shown, strings

NAMES = sorted(str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*") if path.is_file())
HTML = [name for name in NAMES if name.endswith(".html")]
FRAMES = {"base.html", "bare.html"}
WEB = APP / "core" / "web.py"  # it passes on the names that rooms give it
# A mail program reads styles in the head and no style sheet; they are put inline when the letter is written.
STYLES_IN_THE_HEAD = {"emails/letter.html"}
HTMX = (STATIC / "vendor" / "htmx-4.0.1.min.js").read_text()
HTMX_ATTRIBUTES = set(re.findall(r"\bhx-[a-z]+(?:-[a-z]+)*", HTMX))
# Words that may follow an attribute of htmx 4 after a colon.
HTMX_SUFFIXES = {"inherited", "append"}
# These evaluate their text as a program, which the content security policy refuses.
HTMX_PROGRAMS = re.compile(r"""hx-on\b|hx[-_]\w+=["'](js|javascript):|hx[-_]trigger=["'][^"']*\[""")
SYNTAX = Environment(loader=FileSystemLoader(TEMPLATES))  # reads syntax, renders nothing
INLINE = {
    "style attribute": r"""\sstyle\s*=\s*["']""",
    "style element": r"<style\b",
    # JSON-LD is data: a browser never runs it.
    "script without src": r"<script(?![^>]*(\bsrc=|type=\"application/ld\+json\"))",
    "event handler": r"""\son[a-z]+\s*=\s*["']""",
    "javascript address": r"javascript:",
}


def source(name: str) -> str:
    """The text of a template without its comments."""
    return re.sub(r"\{#.*?#\}", "", (TEMPLATES / name).read_text(), flags=re.S)


def parent_of(name: str) -> str | None:
    extends = SYNTAX.parse(source(name)).find(nodes.Extends)
    if extends is None:
        return None
    assert isinstance(extends.template, nodes.Const), f"{name} extends something that only running it tells"
    return str(extends.template.value)


def line_of(name: str) -> list[str]:
    """A template and those it stands in, outermost last."""
    parent = parent_of(name)
    return [name, *(line_of(parent) if parent else [])]


def blocks_of(name: str) -> dict[str, nodes.Block]:
    return {block.name: block for block in SYNTAX.parse(source(name)).find_all(nodes.Block)}


EXTENDED = {parent_of(name) for name in HTML}
PAGES = [name for name in HTML if line_of(name)[-1] in FRAMES and name not in EXTENDED | FRAMES]


def forms(text: str) -> list[str]:
    return re.findall(r"<form\b.*?</form>", text, flags=re.S)


def htmx_attributes(text: str) -> set[str]:
    """Attributes in tags (`hx-get=`) and arguments of macros (`hx_get=`), by the name the browser sees."""
    in_tags = re.findall(r"[\s\"'](hx-[a-z][a-z:0-9-]*)", text)
    in_calls = [found.replace("_", "-") for found in re.findall(r"\b(hx_[a-z_]+?)_?=", text)]
    return {*in_tags, *in_calls}


def unknown_to_htmx(text: str) -> set[str]:
    unknown = set()
    for attribute in htmx_attributes(text):
        base, _, suffix = attribute.partition(":")
        known_suffix = suffix in HTMX_SUFFIXES | {""} or base == "hx-status"
        if base not in HTMX_ATTRIBUTES or not known_suffix:
            unknown.add(attribute)
    return unknown


def templates_named() -> tuple[set[str], set[tuple[str, str]], list[str]]:
    """What the source renders: templates, (template, block) pairs, and calls that could not be read."""
    whole, parts, unread = set(), set(), []
    for path in files(APP):
        for call in calls(path, "render_template", "page_or_block", "block", "post"):
            is_letter = called(call) == "post"
            if is_letter and argument(call, 9, "template") is None:
                continue  # `bp.post`, a route
            try:
                templates = strings(argument(call, 9 if is_letter else 0, "template"), path)
                if called(call) in ("page_or_block", "block"):
                    (block,) = strings(argument(call, 1, "block"), path)
                    parts |= {(template, block) for template in templates}
            except Unreadable as unreadable:
                if path != WEB:
                    unread.append(str(unreadable))
                continue
            whole |= {f"{name}{end}" for name in templates for end in ((".txt", ".html") if is_letter else ("",))}
    return whole, parts, unread


NAMED, PARTS, UNREAD = templates_named()


@pytest.mark.parametrize("name", NAMES)
def test_a_template_compiles(app, name):
    app.jinja_env.get_template(name)


def test_every_call_that_renders_can_be_read():
    assert UNREAD == []
    assert len(NAMED) > 30


def test_every_template_that_is_named_is_there():
    assert set(NAMES) >= NAMED


def test_every_template_there_is_used():
    taken = set(NAMED) | {name for name in NAMES if name.startswith("ui/")}
    for name in NAMES:
        for node in SYNTAX.parse(source(name)).find_all((nodes.Extends, nodes.Include, nodes.FromImport, nodes.Import)):
            taken.add(node.template.value)

    assert set(NAMES) - taken == set()


@pytest.mark.parametrize(("template", "block"), sorted(PARTS))
def test_a_block_that_is_asked_for_alone_is_there_and_has_one_word_in_three_places(template, block):
    assert block in blocks_of(template)
    assert f'id="{block}"' in source(template)


def test_a_part_that_stands_in_no_frame_is_no_page():
    frameless = {name for name in HTML if line_of(name)[-1] not in FRAMES}

    assert {name for name in frameless & NAMED if "/letters/" not in name} == set()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_sets_its_title(name):
    title = blocks_of(name).get("title")

    assert title is not None
    assert any(isinstance(part, nodes.Output) for part in title.body)


@pytest.mark.parametrize("name", HTML)
def test_no_script_or_style_stands_in_a_page(name):
    found = {kind for kind, rule in INLINE.items() if re.search(rule, source(name), re.I)}

    assert found - ({"style element"} if name in STYLES_IN_THE_HEAD else set()) == set()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("style attribute", '<p style="color: red">'),
        ("style element", "<style>p {}</style>"),
        ("script without src", "<script>go()</script>"),
        ("event handler", "<a onclick='go()'>"),
        ("javascript address", '<a href="javascript:go()">'),
    ],
)
def test_the_search_for_scripts_and_styles_finds_each_kind(kind, text):
    assert [each for each, rule in INLINE.items() if re.search(rule, text, re.I)] == [kind]
    assert not re.search(INLINE[kind], '<script src="/static/x.js" defer></script><p class="once">', re.I)
    assert not re.search(INLINE[kind], '<script type="application/ld+json">{}</script>', re.I)


@pytest.mark.parametrize("name", HTML)
def test_a_form_that_posts_carries_a_token(name):
    bare = [
        form
        for form in forms(source(name))
        if 'method="post"' in form and not re.search(r"ui\.csrf\(\)|csrf_token\(\)|hidden_tag\(\)", form)
    ]

    assert bare == []


@pytest.mark.parametrize("name", HTML)
def test_a_form_says_its_method_and_works_without_script(name):
    assert len(forms(source(name))) == source(name).count("<form")
    for form in forms(source(name)):
        head = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", form, flags=re.S).partition(">")[0]
        assert re.search(r'\baction="', head), head
        assert re.search(r'\bmethod="(post|get)"', head), head


@pytest.mark.parametrize("name", HTML)
def test_an_attribute_of_htmx_is_one_that_htmx_knows(name):
    assert unknown_to_htmx(source(name)) == set()
    assert not HTMX_PROGRAMS.search(source(name))


def test_the_list_of_attributes_is_that_of_htmx_4():
    assert {"hx-get", "hx-post", "hx-target", "hx-swap", "hx-swap-oob", "hx-push-url", "hx-disable"} <= HTMX_ATTRIBUTES
    assert {f":{suffix}" in HTMX for suffix in HTMX_SUFFIXES} == {True}
    for of_htmx_2 in ("hx-disabled-elt", "hx-vars", "hx-ext", "hx-params", "hx-prompt", "hx-disinherit", "hx-inherit"):
        assert unknown_to_htmx(f'<p {of_htmx_2}="x">') == {of_htmx_2}
    assert unknown_to_htmx('{{ ui.button("Go", hx_gett="/") }}') == {"hx-gett"}
    assert HTMX_PROGRAMS.search("""<p hx-trigger="click[ctrlKey]">""")
    assert HTMX_PROGRAMS.search("""<p hx-vals='js:{a: 1}'>""")


@pytest.mark.parametrize("name", HTML)
def test_a_target_is_in_the_page_that_names_it(name):
    around = "".join(source(each) for each in line_of(name))

    missing = {
        target
        for target in re.findall(r"""hx[-_]target=["']#([\w-]+)["']""", source(name))
        if f'id="{target}"' not in around
    }

    assert missing == set()


def test_every_page_that_is_linked_is_there(app):
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}

    asked = {
        (name, endpoint) for name in NAMES for endpoint in re.findall(r"""url_for\(["'](\w+\.\w+)["']""", source(name))
    }
    for path in files(APP):
        for call in calls(path, "url_for", "see_other", "address_of"):
            try:
                found = strings(argument(call, 0, "endpoint"), path)
            except Unreadable:
                continue  # an address of a vendor or of the visitor's own path
            asked |= {(shown(path), endpoint) for endpoint in found if re.fullmatch(r"\w+\.\w+", endpoint)}

    assert {(place, endpoint) for place, endpoint in asked if endpoint not in endpoints} == set()
    assert len(asked) > 40
