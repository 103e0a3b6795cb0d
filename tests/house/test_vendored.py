"""Files of others are the ones that were checked when they came in, wherever they lie."""

import base64
import hashlib
import json

import pytest

from sts_app.billing.paper import FONTS
from sts_app.core.web import STATIC, TEMPLATES

VENDOR = STATIC / "vendor"
FOLDERS = (VENDOR, FONTS)
LISTED = [
    pytest.param(folder, entry, id=entry["file"])
    for folder in FOLDERS
    for entry in json.loads((folder / "vendor.json").read_text())
]


@pytest.mark.parametrize(("folder", "entry"), LISTED)
def test_a_vendored_file_has_the_checksum_it_came_with(folder, entry):
    content = (folder / entry["file"]).read_bytes()

    found = "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()

    assert found == entry["sha384"]


@pytest.mark.parametrize(("folder", "entry"), LISTED)
def test_a_vendored_file_is_fully_described(folder, entry):
    assert set(entry) == {"package", "version", "licence", "integrity", "file", "sha384"}
    assert entry["integrity"].startswith("sha512-")
    assert entry["version"] in entry["file"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_no_file_lies_in_vendor_unlisted(folder):
    entries = json.loads((folder / "vendor.json").read_text())
    listed = {entry["file"] for entry in entries}
    licences = {path.name for path in folder.glob("*-LICENSE")}

    assert {path.name for path in folder.iterdir()} == listed | licences | {"vendor.json"}
    assert len(licences) == len({entry["package"] for entry in entries})


def test_the_frames_load_the_listed_htmx():
    entries = json.loads((VENDOR / "vendor.json").read_text())
    (htmx,) = (entry["file"] for entry in entries if entry["package"] == "htmx.org")

    assert f'static_url("vendor/{htmx}")' in (TEMPLATES / "ui" / "frame.html").read_text()
