"""`make lighthouse`: every public page as Lighthouse sees it, served as in production, against what is promised.

What is promised: 100 for accessibility, best practices and SEO, at least 98 for performance; the front page with at
most 60 kB and 10 requests; nothing on any page that jumps, and nobody else asked. Of three rounds the median counts.
Reports of all pages lie in `lighthouse-reports/` afterwards.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import requests

from sts_app.ops.local import ROOT, Stack
from tests.conftest import NO_BROWSER, chromium_path

HERE = Path(__file__).parent
REPORTS = ROOT / "lighthouse-reports"
# Live vendors of nobody: public pages ask none of them.
PRODUCTION = {
    "APP_ENV": "production",
    "APP_URL": "https://store.example",
    "ADAPTERS_PRESET": "real",
    "PROVISIONING_MODE": "manual",
    "STRIPE_SECRET_KEY": "sk_of_nobody",
    "STRIPE_PRICE_ID": "price_of_nobody",
    "STRIPE_WEBHOOK_SECRET": "whsec_of_nobody",
    "RESEND_API_KEY": "re_of_nobody",
    "ADMIN_EMAIL": "sam@staff.example",
    "EMAIL_FROM": "STS Strategies <hello@sts.example>",
    "TRUSTED_PROXIES": "0",
    "LOG_LEVEL": "WARNING",
}


def main() -> int:
    chromium = chromium_path()
    if chromium is None:
        sys.exit(NO_BROWSER)
    folder = Path(tempfile.mkdtemp(prefix="sts-lighthouse-"))
    procfile = folder / "Procfile"
    procfile.write_text((ROOT / "Procfile").read_text().replace("wsgi:app", "tests.lighthouse.edge:app"))
    try:
        with Stack(folder, env=PRODUCTION, throwaway=True, procfile=procfile) as stack:
            stack.prepare().start("web").wait_ready()
            paths = public_paths(stack.url)
            told = subprocess.run(
                ["node", HERE / "measure.mjs", stack.url, *paths],
                env={**os.environ, "CHROME_PATH": chromium, "REPORTS": str(fresh(REPORTS))},
                cwd=HERE,
            )
            return told.returncode
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def public_paths(url: str) -> list[str]:
    """Every page of the sitemap, or those that ONLY names."""
    if only := os.environ.get("ONLY", "").split():
        return only
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the surroundings is not for loopback
        sitemap = session.get(f"{url}/sitemap.xml", timeout=10).text
    found = re.findall(r"<loc>([^<]+)</loc>", sitemap)
    assert found, "the sitemap names no page"
    return [address.removeprefix(PRODUCTION["APP_URL"]) or "/" for address in found]


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
