"""Measures the explorer's page in Chromium: the first brain, clicks, and memory of the tab.

Run ``python benchmarks/explorer.py [--dir DIR] [--size full|demo|tiny] [--json FILE]``; it needs
Chromium and Playwright, as the tests of the page do. The full-size subject has 30 sessions, hard
links to one with trial tables of their own (see ``scale.py``), as many of its 6,204 images with
pictures as the synthetic dataset has, and averages. Each first brain is of a new browser context,
which has nothing in its cache; a time ends when what was asked for is drawn, with its pictures.
Bytes and requests are those of the store; the page's own files are a line of their own. Memory is
resident memory of the process of the tab.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from many_sessions import link_sessions
from measure import Figure, measure_in_folder
from scale import SESSION, SUBJECT, image_names

from laion_zarr import convert, load_stimuli, load_subject
from laion_zarr.conversion.synthetic import write_dataset
from laion_zarr.explorer import page as built

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from explorer_page import Page, browser
from explorer_server import exploring

CLOCK = "addEventListener('pointerdown', () => (window.begun = performance.now()), true)"
# Nothing is being read any more, and each picture in a row is there, or its name.
STILL = (
    "['brain', 'responses'].every((one) => !document.querySelector(`.${one} .status`).textContent)"
    " && [...document.querySelectorAll('.thumbnail')].every((it) => it.querySelector('img, .name'))"
)


class Size(NamedTuple):
    """Size of the dataset, number of sessions if they are linked, first brains, and clicks."""

    dataset: str
    sessions: int | None
    openings: int
    clicks: int


SIZES = {
    "full": Size("full", 30, 5, 200),
    "demo": Size("demo", None, 5, 200),
    "tiny": Size("tiny", None, 1, 4),
}


def make(root: Path, size: Size) -> None:
    """Make the store: of one session, which is linked, or of a small dataset as it is."""
    one, data, sessions = root / "one.zarr", root / "data", [SESSION] if size.sessions else None
    write_dataset(data, size.dataset, [SUBJECT], sessions, progress=True)
    which: dict[str, Any] = {"sessions": SESSION, "mask": "anatomical"} if size.sessions else {}
    convert(data, one, SUBJECT, **which, progress=False)
    if size.sessions:
        n_trials = len(load_subject(SUBJECT, one).metadata)
        names = with_pictures(
            image_names(size.sessions * n_trials), load_stimuli(one).images.names()
        )
        link_sessions(one, SUBJECT, size.sessions, names.reshape(size.sessions, n_trials))
    convert(None, one, SUBJECT, parts="averages", progress=False)
    one.rename(root / "store.zarr")


def with_pictures(names: np.ndarray, pictures: list[str]) -> np.ndarray:
    """Names of trials, some of the images renamed to those that have a picture."""
    images, codes = np.unique(names.astype(str), return_inverse=True)
    some = np.linspace(0, len(images) - 1, min(len(pictures), len(images))).astype(int)
    renamed = images.astype(object)
    renamed[some] = pictures[: len(some)]
    return renamed[codes]


def first_brain(chromium: Any, address: str, openings: int) -> Iterator[Figure]:
    """From the request for the page to the brain with its noise ceiling."""
    times = []
    for _ in range(openings):
        context = chromium.new_context(viewport={"width": 1440, "height": 900})
        page = Page(context.new_page())
        page.open(address)
        times.append(page.ask("performance.now()") / 1e3)
        requests, _ = page.traffic()
        sizes = "performance.getEntries().filter(({name}) => name.includes('.zarr/'))"
        nbytes = page.ask(f"{sizes}.reduce((sum, one) => sum + one.encodedBodySize, 0)")
        context.close()
    yield Figure("first brain", median(times), "s", 2)
    yield Figure("first brain: requests", requests, "", 60)
    yield Figure("first brain: bytes of the store", nbytes / 1e6, "MB", 6)
    files = [(built.FOLDER / name).stat().st_size for name in built.FILES if name[-3:] != "txt"]
    yield Figure("first brain: bytes of the page", sum(files) / 1e6, "MB")


class Clicks:
    """Clicks in the page, one after the other.

    Parameters
    ----------
    page : Page
        The page, with a brain.
    n_clicks : int
        Number of clicks on voxels, and of clicks on pictures.
    """

    def __init__(self, page: Page, n_clicks: int) -> None:
        self.page, self.n_clicks = page, n_clicks
        self._random = np.random.default_rng(0)
        page.ask(CLOCK)

    def timed(self, x: float, y: float, changed: str) -> tuple[float, int, int]:
        """Time of a click, ms, requests and bytes; `changed` says whether it was for something."""
        before = self.page.traffic()
        self.page.page.mouse.click(x, y)
        ready = f"() => {changed} && {STILL} && performance.now() - window.begun"
        ms = self.page.page.wait_for_function(ready, polling="raf").json_value()
        after = self.page.traffic()
        return ms, after[0] - before[0], after[1] - before[1]

    def voxels(self) -> list[tuple[float, int, int]]:
        """Clicks in the coronal slice, well within the brain."""
        box = self.page.page.locator("section.brain canvas").first.bounding_box()
        side = int(np.ceil(np.sqrt(self.n_clicks)))  # of a grid of places, so that none comes twice
        grid = np.stack(np.meshgrid(np.linspace(0.2, 0.3, side), np.linspace(0.17, 0.27, side)), -1)
        found = []
        for across, down in self._random.permutation(grid.reshape(-1, 2))[: self.n_clicks]:
            before = self.page.ask("explorer.state.view.voxel")
            self.page.ask("window.last = explorer.context.responses")
            changed = (
                f"explorer.state.view.voxel !== '{before}' && explorer.context.responses"
                " && explorer.context.responses !== window.last"
            )
            x, y = box["x"] + across * box["width"], box["y"] + down * box["height"]
            found.append(self.timed(x, y, changed))
        return found

    def pictures(self) -> list[tuple[float, int, int]]:
        """Clicks on pictures below the curve, whose responses are laid over the brain."""
        found = []
        while len(found) < self.n_clicks:
            now = self.page.ask("explorer.state.view.picture")
            there = self.page.page.locator(".responses .thumbnail").all()
            other = [one for one in there if one.get_attribute("data-picture") != now]
            one = other[int(self._random.integers(len(other)))]
            one.scroll_into_view_if_needed()
            box = one.bounding_box()
            self.page.ask("window.last = explorer.context.shown")
            changed = (
                "explorer.context.shown && explorer.context.shown !== window.last"
                " && document.querySelector('.picture .readout')"
            )
            found.append(self.timed(box["x"] + 8, box["y"] + 8, changed))
        return found


def memory_of_tab() -> float:
    """Resident memory of the largest process of a tab of this user's browsers, GB."""
    found = [0.0]
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if b"--type=renderer" in (status.parent / "cmdline").read_bytes():
                lines = status.read_text().splitlines()
                found += [int(one.split()[1]) / 1e6 for one in lines if one.startswith("VmRSS")]
        except OSError:  # it has ended
            continue
    return max(found)


def clicks(chromium: Any, address: str, size: Size) -> Iterator[Figure]:
    """Times and bytes of clicks on voxels and on pictures, and the memory after them."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page = Page(context.new_page())
    page.open(address)
    works = Clicks(page, size.clicks // 2)
    yield from _told("voxel click", works.voxels(), 200)
    page.panel("brain").get_by_label("Overlay").select_option("picture")
    yield from _told("picture click", works.pictures(), 300)
    yield Figure(f"memory of the tab after {size.clicks} clicks", memory_of_tab(), "GB", 1)
    assert page.errors == [], page.errors
    context.close()


def _told(what: str, found: list[tuple[float, int, int]], budget: float) -> Iterator[Figure]:
    first, times = found[0], [ms for ms, _, _ in found[1:]]
    yield Figure(f"{what}, the first", first[0], "ms")
    yield Figure(f"{what}, the first: bytes", first[2] / 1e6, "MB", 2)
    yield Figure(f"{what}: median of {len(times)}", median(times), "ms", budget)
    yield Figure(f"{what}: nine of ten within", float(np.quantile(times, 0.9)), "ms")
    yield Figure(f"{what}: requests", median(n for _, n, _ in found[1:]), "")
    yield Figure(f"{what}: most bytes", max(n for _, _, n in found[1:]) / 1e6, "MB", 2)


def figures(root: Path, size: Size) -> Iterator[Figure]:
    """All figures of one store, with one browser."""
    with browser() as chromium, exploring(root / "store.zarr") as address:
        yield from first_brain(chromium, address, size.openings)
        yield from clicks(chromium, address, size)


if __name__ == "__main__":
    measure_in_folder(__doc__, SIZES, "store.zarr", make, figures)
