"""The tree carries no secret, no trace of one machine, nothing left to do, and no silenced check without a reason."""

from __future__ import annotations

import re
import tokenize
from pathlib import Path

import pytest

from sts_app.core.web import ROOT

# What a clone does not have: .gitignore's folders, git's own, and settings with real secrets in them.
NOT_OURS = {".git", "static/vendor", "node_modules", "build", "dist"}
BYTES = {".png", ".ico", ".jpg", ".webp", ".woff2", ".ttf", ".gif", ".gz", ".br", ".pyc"}

SECRETS = {
    "a live key of Stripe": r"\b[sr]k_live_[0-9A-Za-z]{8,}",
    "a test key of Stripe": r"\b[sr]k_test_[0-9A-Za-z]{24,}",
    "a signing secret": r"\bwhsec_[0-9A-Za-z+/=]{20,}",
    "a key of Resend": r"\bre_[0-9A-Za-z]{6,}_[0-9A-Za-z]{16,}",
    "a key of AWS": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "a token of GitHub": r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{40,})",
    "a token of Slack": r"\bxox[abprs]-[0-9A-Za-z-]{10,}",
    "a key of Google": r"\bAIza[0-9A-Za-z_-]{35}",
    "a deploy hook of Render": r"api\.render\.com/deploy/srv-[0-9a-z]+\?key=[0-9A-Za-z_-]{6,}",
}
# Put together here, so that this file holds none itself.
EXAMPLES = {
    "a live key of Stripe": ["sk_" + "live_" + "51Ab" * 6, "rk_" + "live_" + "9" * 24],
    "a test key of Stripe": ["sk_" + "test_" + "51Ab" * 6],
    "a signing secret": ["whsec_" + "Qm9v" * 8, "whsec_" + "a/b+" * 6 + "=="],
    "a key of Resend": ["re_" + "A1b2C3d4" + "_" + "e5F6" * 6],
    "a key of AWS": ["AKIA" + "Q7" * 8, "ASIA" + "Q7" * 8],
    "a private key": ["-----BEGIN " + "PRIVATE KEY-----", "-----BEGIN RSA " + "PRIVATE KEY-----"],
    "a token of GitHub": ["ghp_" + "a1B2" * 9, "github_pat_" + "a1B2" * 11],
    "a token of Slack": ["xoxb-" + "1234567890-abc"],
    "a key of Google": ["AIza" + "Sy0_-" * 7],
    "a deploy hook of Render": ["https://api.render.com/deploy/srv-" + "abc123?key=" + "Zz9_-x"],
}
HARMLESS = [
    "whsec_for_tests",
    "sk_test_of_nobody",
    "re_of_nobody",
    "re_3Ab" + "c" * 18,
    "sk_live_...",
    "price_simulated_lifetime",
    "sha384-" + "Ab1/" * 16,
]
PLACES = {
    "a folder of one machine": r"(?<![\w.:/}])/(?:home|Users|root|work|workspace|workspaces|mnt)/[\w.-]+",
    "a folder of one Windows machine": r"\b[A-Z]:\\\\?Users\\",
}
LEFT_TO_DO = "|".join(("TO" + "DO", "FIX" + "ME"))
SILENCED = re.compile(r"#\s*(?:noqa\b(?::\s*[A-Z0-9]+(?:,\s*[A-Z0-9]+)*)?|type:\s*ignore(?:\[[\w, -]+\])?)")


def ignored() -> set[str]:
    return {line.strip().rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.strip()}


def texts() -> dict[str, str]:
    """Every file that belongs to the project, by its path."""
    skipped = NOT_OURS | ignored()
    found = {}

    def walk(folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            name = path.relative_to(ROOT).as_posix()
            if {name, path.name, f"*{path.suffix}"} & skipped or path.is_symlink():
                continue
            if path.is_dir():
                walk(path)
            elif path.suffix not in BYTES:
                found[name] = path.read_text()

    walk(ROOT)
    return found


def found_in(rules: dict[str, str], text: str) -> list[str]:
    return [f"{kind}: {match[0][:12]}" for kind, rule in rules.items() for match in re.finditer(rule, text)]


def silenced_without_reason(path: Path) -> list[str]:
    """Comments that silence a checker and do not say why on the same line."""
    with path.open("rb") as file:
        comments = [token for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    return [
        f"{path.name}:{comment.start[0]} {comment.string}"
        for comment in comments
        if SILENCED.search(comment.string) and not re.search(r"[A-Za-z]{2,}", SILENCED.sub("", comment.string))
    ]


TEXTS = texts()


def test_the_whole_tree_is_read():
    assert {"pyproject.toml", ".env.example", "Procfile", "sts_app/settings.py", "templates/base.html"} <= TEXTS.keys()
    assert not {name for name in TEXTS if name.startswith((".venv/", ".git/", ".sts/")) or name == ".env"}


@pytest.mark.parametrize(("kind", "example"), [(kind, each) for kind, all_ in EXAMPLES.items() for each in all_])
def test_the_search_for_secrets_finds_each_kind(kind, example):
    assert [each.partition(":")[0] for each in found_in(SECRETS, f'KEY="{example}"\n')] == [kind]


def test_the_search_for_secrets_has_an_example_of_each_kind_and_lets_names_pass():
    assert EXAMPLES.keys() == SECRETS.keys()
    assert found_in(SECRETS, "\n".join(HARMLESS)) == []


def test_no_file_holds_a_secret():
    assert {name: found for name, text in TEXTS.items() if (found := found_in(SECRETS, text))} == {}


def test_no_file_names_a_folder_of_one_machine():
    assert found_in(PLACES, "see /ho" + "me/alice/sts") != []
    assert found_in(PLACES, "C:\\Us" + "ers\\alice") != []
    assert found_in(PLACES, 'href="https://example.com/ho' + 'me/page" and {{ root }}/wo' + "rk/x") == []

    assert {name: found for name, text in TEXTS.items() if (found := found_in(PLACES, text))} == {}


def test_nothing_is_left_to_do_in_a_comment():
    assert {name for name, text in TEXTS.items() if re.search(rf"\b(?:{LEFT_TO_DO})\b", text)} == set()


@pytest.mark.parametrize("name", sorted(name for name in TEXTS if re.fullmatch(r"requirements[\w-]*\.txt", name)))
def test_requirements_name_packages_and_no_address(name):
    text = TEXTS[name]

    assert re.search(r"https?://|^\s*(?:--index-url|--extra-index-url|--find-links|-i|-e|-f)\b", text, re.M) is None
    pinned = re.findall(r"^([A-Za-z0-9][\w.\[\]-]*)\s*(==)?", text, re.M)
    assert pinned
    assert [package for package, pin in pinned if not pin] == []


def test_no_check_is_silenced_without_a_reason(tmp_path):
    probe = tmp_path / "probe.py"
    probe.write_text(
        "a = 1  # no" + "qa: E501\n"
        "b = 2  # type: ig" + "nore[misc, arg-type]\n"
        "c = 3  # type: ig" + "nore[misc]  # the package carries no types\n"
        "d = '# no" + "qa'\n"
    )
    assert [line.partition(" ")[0] for line in silenced_without_reason(probe)] == ["probe.py:1", "probe.py:2"]

    offenders = [line for name in TEXTS if name.endswith(".py") for line in silenced_without_reason(ROOT / name)]
    assert offenders == []


def test_every_text_ends_with_one_line_break():
    odd = {
        name
        for name, text in TEXTS.items()
        if text and (not text.endswith("\n") or text.endswith("\n\n") or "\r" in text)
    }

    assert odd == set()
