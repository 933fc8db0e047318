"""The explorer's page over averages of the store: values are those of `get_image_betas`."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import zarr
from explorer_server import exploring

from laion_zarr import load_subject
from laion_zarr.store.manifest import dump_manifest

ROI = "FFA1"


@pytest.fixture(scope="module")
def means(bare):
    """Averages of all stored voxels, from betas."""
    return load_subject("sub-01", bare).get_image_betas(mask_source="rsquare").load()


def objects_asked_for(page):
    """Keys of the objects of averages and of betas that the page asks for, from now on."""
    keys = []
    page.page.on("request", lambda request: keys.append(request.url.partition("/sub-01/")[2]))
    return lambda what: [key for key in keys if key.startswith(what)]


def test_a_voxel(page, averaged, bare, means):
    """Its mean responses are read alone; the error is that of its trials."""
    chosen = int(means["voxel"][np.isfinite(means).all("image")][0])
    at = f"#voxel={chosen}&of=voxel"
    with exploring(bare) as address:
        page.open(address + at)
        by_trials = page.responses()
    with exploring(averaged) as address:
        asked = objects_asked_for(page)
        page.open(address + at)
        found = page.responses()
    assert asked("averages/mean_by_voxel/c/")
    assert asked("ses-") == []
    assert found["images"] == means["image"].values.tolist()
    assert found["counts"] == means["n_trials"].values.tolist()
    assert not found["atMost"]
    np.testing.assert_array_equal(np.array(found["mean"], "f4"), means.sel(voxel=chosen))
    np.testing.assert_allclose(found["error"], by_trials["error"], rtol=1e-4)


def test_a_region(page, averaged, bare):
    """The error is that of single trials at most; these can be read, too."""
    expected = load_subject("sub-01", bare).get_image_betas(roi=ROI).mean("voxel")
    with exploring(averaged) as address:
        asked = objects_asked_for(page)
        page.open(address)
        page.ask("explorer.context.little = 0")  # this region would be read by trials at once
        page.ask(f"explorer.state.set({{region: '{ROI}', of: 'region'}})")
        found = page.responses()
        assert asked("ses-01/betas/c/") == []
        np.testing.assert_allclose(found["mean"], expected, atol=1e-5)
        assert found["atMost"]
        page.says("responses", "The band is at most this wide")
        page.page.get_by_role("button", name="Read single trials").click()
        exact = page.until(lambda: None if is_at_most(page) else page.responses(), "single trials")
        assert asked("ses-01/betas/c/")
        assert "at most" not in page.panel("responses").inner_text()
    np.testing.assert_allclose(exact["mean"], expected, atol=1e-5)
    assert (np.array(exact["error"]) < np.array(found["error"])).all()


def is_at_most(page):
    return page.ask("explorer.context.responses?.atMost ?? true")


def shown_of(page):
    """Values of the overlay, by stored voxel, as soon as it is shown."""
    code = "explorer.context.shown && [...explorer.context.shown]"
    return np.array(page.until(lambda: page.ask(code), "the overlay is shown"), "float32")


def test_averages_where_the_store_has_them(page, in_blocks, bare):
    """As stored, NaN where the store has NaN, and as `get_image_betas` gives them."""
    images = load_subject("sub-01", bare).get_image_betas(mask_source="rsquare").load()
    group = zarr.open_group(in_blocks, mode="r")["sub-01/averages"]
    with exploring(in_blocks) as address:
        page.open(f"{address}#overlay=picture&picture={images['image'].values[4]}")
        shown = shown_of(page)
        page.says("brain", "Colours")
        assert "averages" not in page.panel("brain").inner_text()
    np.testing.assert_array_equal(shown, group["mean"][4])
    places = pd.Index(group["voxel"][:]).get_indexer(images["voxel"])
    np.testing.assert_array_equal(shown[places], images[4])


def test_stale_averages_are_not_shown(page, averaged, bids_root, copy_of):
    own = copy_of(averaged)
    manifest = json.loads((own / "sub-01/manifest.json").read_text())
    manifest["parts"]["averages"]["sources"]["ses-02"]["crc32"] ^= 1
    (own / "sub-01/manifest.json").write_bytes(dump_manifest(manifest))
    image = load_subject("sub-01", own).metadata["label"][0]
    with exploring(own) as address:
        page.open(f"{address}#overlay=picture&picture={image}")
        page.says("brain", "made from other betas")
        page.says("brain", "laion-zarr convert --parts averages")
        assert page.ask("explorer.context.shown") is None
