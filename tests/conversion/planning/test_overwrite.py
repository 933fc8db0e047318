"""Overwriting, and converting with other voxels: nothing stored is lost."""

from __future__ import annotations

import numpy as np
import pytest
from converting import alone
from small_mirror import (
    BARE,
    DAMAGES,
    GLM,
    HTML,
    METADATA,
    SHAPE,
    anatomy_file,
    betas_file,
    ceiling_file,
    check,
    command,
    inside,
    map_file,
    mask_file,
    names_and_mends,
    nifti,
    pack,
    put,
    read_nifti,
    remove,
    roi_file,
    shards,
    surface_file,
    trials_file,
)
from trees import tree_bytes

from laion_zarr import convert, load_subject
from laion_zarr.errors import LaionZarrError, NotConvertedError, SourceError


def test_new_voxel_order_loses_no_map(bids_root, store, copy_of):
    target, mirror = copy_of(store), copy_of(bids_root)
    for path in mirror.rglob("sub-01_ses-01*desc-R2_statmap.*"):
        path.unlink()
    with pytest.raises(LaionZarrError, match=r"maps/ses-01/r2.*could not be converted again"):
        alone(mirror, target, subjects="01", mask="rsquare", overwrite=True)
    assert np.isfinite(load_subject("01", target).dataset["r2"].sel(session_id="ses-01")).any()


@pytest.mark.parametrize("source", ["anatomical", "rsquare"])
def test_store_of_one_mask(whole, whole_store, new, capsys, source):
    other = {"anatomical": "rsquare", "rsquare": "anatomical"}[source]
    assert command(whole, new, "--subject", "01", "--mask", source) == 0
    check(whole, new, lacks={other})
    subject = load_subject("01", new)
    for ask in (
        lambda: subject.get_betas(mask_source=other),
        lambda: subject.sel(mask_source=other),
        lambda: subject.get_brain_mask(other),
        lambda: subject.get_roi_mask("EBA", mask_source=other),
    ):
        with pytest.raises(NotConvertedError) as caught:
            ask()
        names_and_mends(str(caught.value), other, "laion-zarr convert", f"{source!r}")
    before = shards(new)
    with pytest.raises(LaionZarrError) as caught:
        convert(whole, new, mask="both", subjects="01", progress=False)
    assert isinstance(caught.value, NotConvertedError)
    names_and_mends(str(caught.value), "--overwrite", "sub-01", other)
    assert command(whole, new, "--subject", "01") == 1
    assert shards(new) == before
    check(whole, new, lacks={other})
    capsys.readouterr()
    assert (
        command(whole, new, "--subject", "01", "--mask", source) == 0
    )  # asked as before: nothing to do
    assert shards(new) == before
    assert command(whole, new, "--subject", "01", "--mask", "both", "--overwrite") == 0
    check(whole, new)
    assert tree_bytes(new, "sub-01/**/*") == tree_bytes(whole_store, "sub-01/**/*")


def grow(root):
    """A brain mask with one more voxel: another voxel axis."""
    mask = read_nifti(root / mask_file("anatomical"))
    free = np.flatnonzero(~inside(root, "union"))
    mask[np.unravel_index(free[0], SHAPE)] = 1
    put(root, mask_file("anatomical"), pack(nifti(mask)))


def test_overwrite_without_a_session_keeps_it(mirror, whole, kept):
    remove(mirror, f"{GLM}/sub-01/ses-02/func/*")
    command(mirror, kept, "--overwrite")
    check(whole, kept)


@pytest.mark.parametrize("gone", [f"{GLM}/sub-01/ses-02/func/*", betas_file(), trials_file()])
def test_overwrite_with_other_voxels_needs_all_sessions(mirror, whole, kept, capsys, gone):
    grow(mirror)
    remove(mirror, gone)
    before = tree_bytes(kept, "sub-01/**/*")
    assert command(mirror, kept, "--overwrite") == 1
    names_and_mends(capsys.readouterr().err, "ses-02", "--overwrite")
    check(whole, kept)
    assert tree_bytes(kept, "sub-01/**/*") == before


@pytest.mark.parametrize(
    "gone", [roi_file("EBA"), ceiling_file("Noiseceiling4rep"), mask_file("rsquare")]
)
def test_overwrite_without_a_file_of_the_voxels_is_refused(mirror, whole, kept, capsys, gone):
    remove(mirror, gone)
    before = tree_bytes(kept, "sub-01/**/*")
    assert command(mirror, kept, "--overwrite") == 1
    names_and_mends(capsys.readouterr().err, gone)
    check(whole, kept)
    assert tree_bytes(kept, "sub-01/**/*") == before


@pytest.mark.parametrize(
    "gone",
    [map_file("r2"), anatomy_file("t2w"), surface_file("EBA", "L", "func.gii"), METADATA],
)
def test_overwrite_without_another_file_loses_nothing(mirror, whole, kept, gone):
    remove(mirror, gone)
    command(mirror, kept, "--overwrite")
    check(whole, kept)
    assert "stim_idx" in load_subject("01", kept).dataset.coords


@pytest.mark.parametrize("other_voxels", [False, True])
@pytest.mark.parametrize("damage", ["no trailer", "3-D"])
def test_overwrite_with_a_damaged_session(mirror, whole, kept, damage, other_voxels):
    before = tree_bytes(kept, "sub-*/**/*")
    if other_voxels:
        grow(mirror)
    put(mirror, betas_file(), DAMAGES[damage]((whole / betas_file()).read_bytes()))
    with pytest.raises(LaionZarrError) as caught:
        convert(mirror, kept, overwrite=True, progress=False)
    names_and_mends(str(caught.value), mirror / betas_file())
    check(whole, kept)
    check(whole, kept, subject="sub-03", lacks=BARE)
    assert tree_bytes(kept, "sub-*/**/*") == before
    put(mirror, betas_file(), (whole / betas_file()).read_bytes())
    assert command(mirror, kept, "--overwrite") == 0
    check(mirror, kept)


@pytest.mark.parametrize(
    "path", [roi_file("EBA"), ceiling_file("Noiseceiling4rep"), mask_file("rsquare")]
)
def test_overwrite_with_a_damaged_file_of_the_voxels(mirror, whole, kept, path):
    put(mirror, path, HTML)
    with pytest.raises(LaionZarrError) as caught:
        convert(mirror, kept, overwrite=True, progress=False)
    assert str(mirror / path) in str(caught.value)
    check(whole, kept)


@pytest.mark.parametrize(
    "path",
    [map_file("r2"), anatomy_file("t2w"), surface_file("EBA", "L", "func.gii"), METADATA],
)
def test_overwrite_with_another_damaged_file(mirror, whole, kept, path):
    put(mirror, path, HTML)
    with pytest.raises(SourceError) as caught:
        convert(mirror, kept, overwrite=True, progress=False)
    assert str(mirror / path) in str(caught.value)
    check(whole, kept)
