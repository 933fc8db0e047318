"""Chromium with the explorer's page, driven by Playwright."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# WebGL without a graphics card.
OPTIONS = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")
NO_BROWSER = "no chromium here: apt-get install chromium"
PATIENCE = 60


@contextmanager
def browser() -> Iterator[Any]:
    """A browser; skips the tests that ask for it where there is none."""
    if CHROMIUM is None:
        pytest.skip(NO_BROWSER)
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield chromium
        chromium.close()


class Page:
    """The page as a user sees it, and the numbers behind it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._noted)

    def _noted(self, message: Any) -> None:
        # A missing object is also told by the page; the browser notes it by itself.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def open(self, address: str) -> None:
        """Load an address anew, until the page is ready or says why it is not."""
        self.page.goto("about:blank")
        self.page.goto(address)
        ready = "document.querySelector('#explorer')?.dataset.ready"
        self.until(lambda: self.ask(ready) or self.problems(), "the page is ready")

    def until(self, there: Callable[[], Any], what: str) -> Any:
        """Wait until something is there."""
        end = time.monotonic() + PATIENCE
        while not (found := there()):
            assert time.monotonic() < end, f"not within {PATIENCE} s: {what}; {self.problems()}"
            self.page.wait_for_timeout(20)
        return found

    def ask(self, code: str) -> Any:
        """Value of an expression in the page."""
        return self.page.evaluate(code)

    def problems(self) -> list[str]:
        """What the page says went wrong."""
        return [text for text in self.page.locator(".problem").all_inner_texts() if text]

    def responses(self) -> dict[str, Any]:
        """Responses that are shown."""
        self.until(lambda: self.ask("window.explorer?.context.responses"), "responses are shown")
        return self.ask(
            "(({images, mean, error, counts, nVoxels, order, atMost}) => ({images, nVoxels, atMost,"
            "mean: [...mean], error: [...error], counts: [...counts], order: [...order]}))"
            "(explorer.context.responses)"
        )

    def panel(self, name: str) -> Any:
        """One of the panels: brain, responses or picture."""
        return self.page.locator(f"section.{name}")

    def says(self, name: str, text: str) -> None:
        """Wait until a panel says something."""
        panel = self.panel(name)
        self.until(lambda: text in panel.inner_text(), f"{text!r} in {panel.inner_text()!r}")

    def traffic(self) -> tuple[int, int]:
        """Requests and bytes so far."""
        return tuple(self.ask("(({requests, bytes}) => [requests, bytes])(explorer.context.store)"))
