"""Files of others in `static/vendor` are the ones that were checked when they came in."""

import base64
import hashlib
import json

import pytest

from sts_app.core.web import STATIC, TEMPLATES

VENDOR = STATIC / "vendor"
LISTED = json.loads((VENDOR / "vendor.json").read_text())


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry["file"])
def test_a_vendored_file_has_the_checksum_it_came_with(entry):
    content = (VENDOR / entry["file"]).read_bytes()

    found = "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()

    assert found == entry["sha384"]


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry["file"])
def test_a_vendored_file_is_fully_described(entry):
    assert set(entry) == {"package", "version", "licence", "integrity", "file", "sha384"}
    assert entry["integrity"].startswith("sha512-")
    assert entry["version"] in entry["file"]


def test_no_file_lies_in_vendor_unlisted():
    listed = {entry["file"] for entry in LISTED}
    licences = {path.name for path in VENDOR.glob("*-LICENSE")}

    assert {path.name for path in VENDOR.iterdir()} == listed | licences | {"vendor.json"}
    assert len(licences) == len({entry["package"] for entry in LISTED})


def test_the_frames_load_the_listed_htmx():
    (htmx,) = (entry["file"] for entry in LISTED if entry["package"] == "htmx.org")

    assert f'static_url("vendor/{htmx}")' in (TEMPLATES / "ui" / "frame.html").read_text()
