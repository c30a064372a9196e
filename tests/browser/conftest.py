"""Pages in a real Chromium: these tests are skipped, and say so, where none is installed (Debian: `apt install chromium`)."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tools.shared.browser import CHROMIUM, started_browser


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, started once for all tests."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with started_browser() as browser:
        yield browser


@pytest.fixture
def open_page(browser):
    """`open_page(file)` opens a file and returns Playwright's page; `size`, `dark` and `touch` choose the device.

    When the test ends, it fails if a page sent a request to anywhere but its own folder, or wrote an error to the console.
    """
    contexts, troubles = [], []

    def open_page(file: Path, size: tuple[int, int] = (1280, 720), dark: bool = False, touch: bool = False) -> Page:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light", has_touch=touch
        )
        contexts.append(context)
        page = context.new_page()
        page.on(
            "request", lambda request: troubles.append(f"request: {request.url[:200]}") if _leaves(request) else None
        )
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("console", lambda said: troubles.append(f"console: {said.text}") if said.type == "error" else None)
        page.goto(file.resolve().as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not troubles


def _leaves(request) -> bool:
    return not request.url.startswith(("file:", "data:", "blob:"))


@pytest.fixture
def grave_violations():
    """From a page to what axe-core finds of level serious or critical: rule, and the first element that breaks it."""

    def find(page: Page) -> list[str]:
        # Without preloading: it fetches style sheets, which a page opened from disk may not do.
        found = Axe().run(page, options={"preload": False, "resultTypes": ["violations"]}).response["violations"]
        return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in ("serious", "critical")]

    return find


@pytest.fixture
def overflow():
    """How many CSS pixels a page is wider than its window; 0 if it fits."""
    return lambda page: page.evaluate("Math.max(0, document.documentElement.scrollWidth - window.innerWidth)")
