"""The explorer's page where parts are missing, bytes are wrong, and servers are slow or gone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from explorer_server import exploring
from web_server import serving

from laion_zarr import load_subject
from laion_zarr.explorer.page import export_page

ROI = "FFA1"
AT = f"#region={ROI}&of=region"


def flip(file: Path, position: int) -> None:
    """Flip one bit."""
    data = bytearray(file.read_bytes())
    data[position] ^= 4
    file.write_bytes(data)


def test_a_store_of_betas_alone(page, bare):
    with exploring(bare) as address:
        page.open(address + AT)
        found = page.responses()
        assert found["nVoxels"] == load_subject("sub-01", bare).get_betas(roi=ROI).sizes["voxel"]
        page.says("responses", "This store holds no pictures (part images)")
        row = page.page.get_by_role("group", name="Strongest")
        names = row.locator(".thumbnail .name").all_inner_texts()
        assert names == [found["images"][code] for code in found["order"][:8]]
        views = page.panel("brain").get_by_label("View").locator("option").all_inner_texts()
        assert views == ["slices", "volume"]
        assert "2 sessions" in page.page.locator("header").inner_text()
        for summary in ("Words of its pictures", "Localizer contrasts"):
            page.page.get_by_text(summary).click()
        page.says("responses", "no segmentations: laion-zarr download-segmentations")
        page.says("responses", "no captions: laion-zarr download-captions")
        page.says("responses", "no localizer maps of sub-01")
        row.locator(".thumbnail").first.click()
        page.says("picture", "laion-zarr request-access")
        page.says("picture", "This store has no embeddings")
        page.says("picture", "This store has no captions")
        page.page.get_by_text("Train and test splits").click()
        page.says("picture", "laion-zarr splits add")
        assert page.problems() == []


@pytest.mark.parametrize("place", ["data", "table"])
def test_a_flipped_byte_of_betas_is_named(page, copy_of, store, place):
    own = copy_of(store)
    what = "betas" if place == "data" else "betas_chunks"
    for file in own.glob(f"sub-01/ses-02/{what}/c/*/*"):
        for position in range(20, file.stat().st_size - 8, 50):
            flip(file, position)
    with exploring(own) as address:
        page.open(address + AT)
        page.until(page.problems, "a problem")
        (problem,) = page.problems()
        where = "betas, at 0, 0," if place == "data" else "betas_chunks/c/0/0"
        assert problem.startswith(f"sub-01/ses-02/{where} does not match its checksum")
        assert "laion-zarr verify" in problem
        assert page.ask("explorer.context.responses") is None
        assert page.page.get_by_role("slider").count() == 0  # no curve


def test_a_whole_shard_of_other_betas_is_named(page, copy_of, store):
    """Its checksums and its index are right: only the table of chunks knows better."""
    own = copy_of(store)
    one, other = (own / f"{subject}/ses-02/betas/c/0/0" for subject in ("sub-01", "sub-03"))
    assert one.read_bytes() != other.read_bytes()
    shutil.copy(other, one)
    with exploring(own) as address:
        page.open(address + AT)
        page.until(page.problems, "a problem")
        assert page.problems()[0].startswith("sub-01/ses-02/betas, at 0, 0, does not match")
        assert page.ask("explorer.context.responses") is None


def test_a_flipped_byte_of_labels_is_named(page, copy_of, store):
    own = copy_of(store)
    flip(own / "sub-01/voxels/noise_ceiling/c/0/0", 30)
    with exploring(own) as address:
        page.open(address)
    assert page.problems()[0].startswith("sub-01/voxels/noise_ceiling/c/0/0 does not match")
    page.errors.clear()  # the page says it in words; it also rejects


@pytest.mark.parametrize(
    "name", ["manifest.json", "sub-01/manifest.json", "sub-01/voxels/zarr.json"]
)
def test_flipped_metadata_are_named(page, copy_of, store, name):
    own = copy_of(store)
    flip(own / name, 60)
    with exploring(own) as address:
        page.open(address)
    assert page.problems()[0].startswith(f"{name} does not match its checksum")
    page.errors.clear()


def test_a_flipped_byte_of_a_picture_is_no_picture(page, copy_of, with_splits):
    own = copy_of(with_splits)
    (shard,) = own.glob("stimuli/images/data/c/*")
    for position in range(100, shard.stat().st_size - 50_000, 100):
        flip(shard, position)
    with exploring(own) as address:
        page.open(address + AT)
        page.until(lambda: len(page.problems()) >= 8, "a problem of each picture")
        for problem in page.problems():
            assert re.search(r"images/data: the picture \S+ does not match its checksum", problem)
        assert page.page.locator(".thumbnail img").count() == 0


def test_objects_that_are_missing(page, address):
    pattern = "**/ses-02/betas/c/**"
    page.page.route(pattern, lambda route: route.fulfill(status=404))
    page.open(address + AT)
    page.until(page.problems, "a problem")
    assert "ses-02/betas/c/0/0 is missing." in page.problems()[0]
    page.page.unroute(pattern)
    page.panel("responses").get_by_role("combobox").fill("PPA")
    page.page.keyboard.press("Enter")
    page.says("responses", "PPA (")
    page.responses()
    assert page.problems() == []


def test_a_server_that_fails_for_a_while(page, address):
    failures = [500, 503]

    def fail(route):
        if failures:
            route.fulfill(status=failures.pop())
        else:
            route.continue_()

    page.page.route("**/ses-01/betas/**", fail)
    page.open(address + AT)
    page.responses()
    assert failures == []
    assert page.problems() == []


def test_a_server_that_is_gone(page, store):
    with exploring(store) as address:
        page.open(address)
    page.panel("responses").get_by_role("combobox").fill(ROI)
    page.page.keyboard.press("Enter")
    page.until(page.problems, "a problem")
    assert "Is the server still running?" in page.problems()[0]
    page.errors = [error for error in page.errors if "ERR_CONNECTION_REFUSED" not in error]


def test_a_slow_server_says_what_it_does_and_the_last_click_counts(page, address, sub):
    held, is_slow = [], True

    def hold(route):
        if is_slow:
            held.append(route)
        else:
            route.continue_()

    page.open(address)
    page.page.route("**/betas/**", hold)
    voxels = sub.get_betas(roi="laiongeneral")["voxel"].values[[0, -1]]
    for voxel in voxels:
        page.ask(f"explorer.state.set({{voxel: '{voxel}', of: 'voxel'}})")
        page.says("responses", f"Voxel {voxel}")
        page.says("responses", "Reading responses")
    page.until(lambda: held, "requests wait")
    is_slow = False
    for route in held:
        route.continue_()
    page.responses()
    assert page.panel("responses").locator("h2").inner_text() == f"Voxel {voxels[-1]}"
    assert page.problems() == []


@pytest.mark.parametrize(
    ("hash_", "panel", "words"),
    [
        ("#subject=sub-77", "", "sub-77 is not in this store; shown is sub-01."),
        ("#region=NONE&of=region", "responses", "NONE is not a region of sub-01."),
        ("#voxel=3&of=voxel", "responses", "Voxel 3 of sub-01 is not stored."),
        ("#picture=none.jpg", "picture", "none.jpg is no image of this store."),
        ("#overlay=map/ses-99/r2", "brain", "map/ses-99/r2 is not in the store."),
        ("#overlay=picture", "brain", "Choose a picture"),
    ],
)
def test_addresses_that_lead_nowhere(page, address, hash_, panel, words):
    page.open(address + hash_)
    place = page.panel(panel) if panel else page.page.locator("#explorer")
    page.until(lambda: words in place.inner_text(), words)


def test_hosted_beside_the_store(page, store, tmp_path):
    export_page(tmp_path / "site")
    shutil.copytree(store, tmp_path / "site" / "laion-fmri.zarr")
    with serving(tmp_path / "site") as url:
        page.open(f"{url}/index.html{AT}")
        page.responses()
        assert page.problems() == []


def test_hosted_with_another_store(page, store, tmp_path):
    export_page(tmp_path / "site")
    shutil.copytree(store, tmp_path / "data" / "own name.zarr")
    with serving(tmp_path) as url:
        page.open(f"{url}/site/index.html?store=../data/own%20name.zarr{AT}")
        page.responses()
        assert page.problems() == []


def test_a_web_server_without_ranges_is_named(page, store, tmp_path):
    export_page(tmp_path)
    shutil.copytree(store, tmp_path / "laion-fmri.zarr")
    with serving(tmp_path, ranges=False) as url:
        page.open(f"{url}/index.html{AT}")
        page.until(page.problems, "a problem")
        assert "this web server does not answer range requests" in page.problems()[0]


def test_no_store_there(page, tmp_path):
    export_page(tmp_path)
    with serving(tmp_path) as url:
        page.open(f"{url}/index.html")
    # Both are asked for together, and the first answer is the one that is shown.
    expected = re.compile(r"laion-fmri\.zarr/(manifest|zarr)\.json is missing\.")
    assert expected.search(page.problems()[0])
    page.errors.clear()
