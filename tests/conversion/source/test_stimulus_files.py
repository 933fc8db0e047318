"""Stimulus files that are missing, unreadable, or of other images; several damages at once."""

from __future__ import annotations

import os
import re
import shutil

import h5py
import numpy as np
import pytest
from stimulus_mirror import (
    CAPTION_TABLE,
    FILE_OF,
    HTML,
    IMAGES,
    MASKS,
    NAMES,
    SEGMENTATION_TABLE,
    SHOWN,
    check,
    command,
    embedding_arrays,
    embeddings_file,
    names_and_mends,
    put,
    renamed,
    report_of,
    teaches,
    write_embeddings,
)
from stimulus_mirror import mirror as mirror
from stimulus_mirror import new as new
from stimulus_mirror import whole as whole
from stimulus_mirror import whole_store as whole_store
from trees import tree_bytes

from laion_zarr import convert, load_stimuli, load_subject
from laion_zarr import verify as verify_store
from laion_zarr.errors import LaionZarrError, SourceError


def test_all_damages_are_said_at_once(mirror, new, capsys):
    paths = [IMAGES, embeddings_file("CLIP"), MASKS, CAPTION_TABLE]
    for path in paths:
        put(mirror, path, HTML)
    assert command(mirror, new) == 1
    names_and_mends(capsys.readouterr().err, *[mirror / path for path in paths])
    check(mirror, new, lacks={"images", "embeddings/CLIP", "segmentations", "captions"})


def test_dangling_links_and_folders(mirror, whole, whole_store, new):
    (mirror / IMAGES).unlink()
    (mirror / IMAGES).symlink_to(mirror / "nowhere")
    (mirror / CAPTION_TABLE).unlink()
    (mirror / CAPTION_TABLE).mkdir()
    report = report_of(mirror, new)
    assert "stimuli images" in report.failed
    assert str(mirror / IMAGES) in str(report.failed["stimuli images"])
    check(whole, new, lacks={"images", "captions"})
    (mirror / IMAGES).unlink()
    (mirror / CAPTION_TABLE).rmdir()
    for path in (IMAGES, CAPTION_TABLE):
        shutil.copyfile(whole / path, mirror / path)
    assert command(mirror, new) == 0
    assert tree_bytes(new) == tree_bytes(whole_store)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
@pytest.mark.parametrize("path", sorted({*FILE_OF.values(), SEGMENTATION_TABLE}))
def test_unreadable_file(mirror, whole, new, path):
    (mirror / path).chmod(0)
    report = report_of(mirror, new)
    assert report.failed
    for error in report.failed.values():
        names_and_mends(str(error), mirror / path, "Mend its permissions")
    (mirror / path).chmod(0o644)
    assert command(mirror, new) == 0
    check(whole, new)


def test_unknown_and_missing_images_of_a_model(mirror, new):
    """Named in a warning, no failure; NaN where there is none."""
    gone, stranger = NAMES[1], "shared_12rep_LAION_cluster_9_i9.jpg"
    renamed(gone, stranger)(mirror, None)
    report = report_of(mirror, new)
    assert not report.failed
    said = [line for line in report.missing if "embeddings/CLIP" in line]
    assert any(stranger in line for line in said)
    assert any(gone in line for line in said)
    check(mirror, new)
    stim = load_stimuli(new)
    assert np.isnan(stim.embeddings.get("CLIP", gone).values).all()
    assert not np.isnan(stim.embeddings.get("SigLIP2", gone).values).any()
    with pytest.raises(KeyError, match=re.escape(stranger)):
        stim.embeddings.get("CLIP", stranger)
    assert stranger not in stim.dataset["image"].values
    found = load_subject("01", new).embeddings.all("CLIP").values
    missing = np.array(SHOWN) == gone
    assert np.isnan(found[missing]).all()
    assert not np.isnan(found[~missing]).any()
    assert command(mirror, new) == 0
    assert not verify_store(new, mirror, deep=True, progress=False).notes


def test_fewer_images_in_a_model(mirror, new):
    arrays = embedding_arrays("CLIP")
    write_embeddings(mirror, "CLIP", **{name: list(a)[:4] for name, a in arrays.items()})
    with h5py.File(mirror / embeddings_file("CLIP"), "r+") as file:
        del file["embedding"], file["valid"]
        file["embedding"], file["valid"] = arrays["embedding"][:4], arrays["valid"][:4]
    assert command(mirror, new) == 0
    check(mirror, new)


def test_convert_raises_what_the_report_holds(mirror, new):
    put(mirror, IMAGES, b"")
    with pytest.raises(SourceError) as caught:
        convert(mirror, new, n_workers=1, progress=False)
    teaches(caught.value, mirror / IMAGES)
    put(mirror, CAPTION_TABLE, b"")
    with pytest.raises(LaionZarrError, match="2 parts could not be converted"):
        convert(mirror, new, n_workers=1, progress=False)
