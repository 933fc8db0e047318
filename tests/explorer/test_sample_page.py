"""The explorer's page on the sample, whose voxels, masks, captions and maps have every gap."""

from __future__ import annotations

import json

import numpy as np
import pytest
from explorer_server import exploring
from places import EXPECTED, SAMPLE

from laion_zarr import convert, load_subject

pytestmark = pytest.mark.skipif(not SAMPLE.exists(), reason="the sample is not here")


@pytest.fixture(scope="module")
def sample_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "laion-fmri.zarr"
    convert(SAMPLE / "data", path, progress=False)
    return path


@pytest.fixture(scope="module")
def sample_address(sample_store):
    with exploring(sample_store) as address:
        yield address


@pytest.mark.parametrize("subject", ["sub-01", "sub-03"])
def test_regions(page, sample_address, sample_store, subject):
    sub = load_subject(subject, sample_store)
    sizes = json.loads((EXPECTED / "summary.json").read_text())["subjects"][subject]["rois"]
    page.open(f"{sample_address}#subject={subject}")
    names = page.ask("explorer.context.subject.regions.map(({name}) => name)")
    assert names == sorted(sizes)
    inside = [name for name in names if sizes[name]["anatomical"]]
    for name in {*inside[:4], *set(names).difference(inside)}:
        n_voxels = sizes[name]["anatomical"]
        page.ask(f"explorer.state.set({{region: '{name}', of: 'region'}})")
        if n_voxels == 0:
            page.says("responses", f"No voxel of {name} is in the anatomical brain mask.")
            continue
        page.says("responses", f"{name} ({n_voxels:,} voxel")
        found = page.responses()
        betas = sub.get_betas(roi=name).load()
        with np.errstate(all="ignore"):
            scored = betas.groupby("session").map(lambda b: (b - b.mean("trial")) / b.std("trial"))
        scored = scored.where(np.isfinite(scored))
        wanted = scored.groupby("image_name").mean("trial").mean("voxel")
        assert found["images"] == wanted["image_name"].values.tolist()
        shown = np.array(found["mean"], float)
        np.testing.assert_allclose(shown, wanted.values, atol=2e-5)
        finite = np.isfinite(wanted.values)
        assert len(found["order"]) == finite.sum()
    assert page.problems() == []


def test_captions_literally(page, sample_address):
    answers = json.loads((EXPECTED / "stimuli.json").read_text())
    name, answer = max(answers["images"].items(), key=lambda pair: len(pair[1]["captions"]))
    page.open(f"{sample_address}#picture={name}")
    page.says("picture", "Seen by")
    shown = (
        page.panel("picture")
        .locator(".captions li")
        .evaluate_all("items => items.map(item => item.lastChild.textContent)")
    )
    assert sorted(shown) == sorted(caption["caption"] for caption in answer["captions"])
