"""The system's Chromium, for pictures of pages and for the tests of pages (Debian: `apt install chromium`)."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def started_browser() -> Iterator[Browser]:
    """A browser without a window; `CHROMIUM` must not be `None`."""
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # it refuses to start for root with a sandbox
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()
