"""A browser for the tests of the explorer's page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from explorer_page import Page, browser
from explorer_server import exploring


# Closed after each file: an event loop runs in this thread as long as there is a browser.
@pytest.fixture(scope="module")
def chromium() -> Iterator:
    with browser() as found:
        yield found


@pytest.fixture
def page(chromium) -> Iterator[Page]:
    """A page that must not throw."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    found = Page(context.new_page())
    yield found
    context.close()
    assert found.errors == []


@pytest.fixture(scope="module")
def address(with_splits: Path) -> Iterator[str]:
    """Address of the page over all that a store can have."""
    with exploring(with_splits) as found:
        yield found
