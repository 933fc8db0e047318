"""Mirrors that lack stimulus files, and stores whose stimulus manifest is lost."""

from __future__ import annotations

import shutil

import pytest
from stimulus_mirror import (
    CAPTION_TABLE,
    FILE_OF,
    IMAGES,
    MASKS,
    METADATA,
    NAMES,
    PARTS,
    SEGMENTATION_TABLE,
    check,
    command,
    embeddings_file,
    half,
    names_and_mends,
    picture,
    report_of,
)
from stimulus_mirror import kept as kept
from stimulus_mirror import mirror as mirror
from stimulus_mirror import new as new
from stimulus_mirror import whole as whole
from stimulus_mirror import whole_store as whole_store
from trees import tree_bytes

# -- partial mirrors


def test_metadata_missing_while_pictures_are_there(mirror, whole, whole_store, new, capsys):
    """A mirror merely lacks it: said, no failure unless asked for; then the rest."""
    (mirror / METADATA).unlink()
    code = command(mirror, new)
    names_and_mends(capsys.readouterr().err, METADATA, "download")
    check(whole, new, lacks={"metadata", "images"})
    assert command(mirror, new, "--parts", "images") == 1
    names_and_mends(capsys.readouterr().err, METADATA, "laion-zarr download-stimuli")
    shutil.copyfile(whole / METADATA, mirror / METADATA)
    assert command(mirror, new) == 0
    assert tree_bytes(new) == tree_bytes(whole_store)
    assert code == 0


def test_metadata_gone_from_the_mirror_serve_from_the_store(mirror, whole, whole_store, kept):
    (mirror / METADATA).unlink()
    for options in ([], ["--overwrite"]):
        assert command(mirror, kept, *options) == 0
        check(whole, kept)
        assert tree_bytes(kept) == tree_bytes(whole_store)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_partial_mirror_then_the_rest(mirror, whole, whole_store, new, part):
    """Any part may be missing, and come later; what vanishes from the mirror stays stored."""
    path = FILE_OF[part]
    (mirror / path).unlink()
    report = report_of(mirror, new)
    lacks = {part, "images"} if part == "metadata" else {part}
    check(whole, new, lacks=lacks)
    if not part.startswith("embeddings"):
        said = [*report.missing, *map(str, report.failed.values())]
        assert any(path in line for line in said)
    shutil.copyfile(whole / path, mirror / path)
    assert command(mirror, new) == 0
    assert tree_bytes(new) == tree_bytes(whole_store)
    (mirror / path).unlink()
    assert command(mirror, new, "--overwrite") == 0
    assert tree_bytes(new) == tree_bytes(whole_store)


@pytest.mark.parametrize("path", [MASKS, SEGMENTATION_TABLE])
def test_one_of_two_files(mirror, whole, whole_store, new, capsys, path):
    (mirror / path).unlink()
    assert command(mirror, new) == 0
    assert path in capsys.readouterr().err
    check(whole, new, lacks={"segmentations"})
    shutil.copyfile(whole / path, mirror / path)
    assert command(mirror, new) == 0
    assert tree_bytes(new) == tree_bytes(whole_store)


@pytest.mark.parametrize("part", ["images", "segmentations", "captions", "metadata", "embeddings"])
def test_asked_for_and_missing_is_a_failure(mirror, new, capsys, part):
    for path in (mirror / "stimuli").iterdir():
        path.unlink()
    assert command(mirror, new, "--parts", part) == 1
    names_and_mends(capsys.readouterr().err, "laion-zarr download-")


def test_store_without_pictures_to_be_shared(mirror, new):
    parts = ["--parts", "metadata", "embeddings", "segmentations", "captions", "betas"]
    assert command(mirror, new, *parts) in (0, 2)  # or one option for each
    if not new.exists():
        assert command(mirror, new, *(f"--parts={name}" for name in parts[1:])) == 0
    check(mirror, new, lacks={"images"})
    pictures = [picture(name) for name in NAMES]
    assert not any(data in stored for stored in tree_bytes(new).values() for data in pictures)


# -- a manifest that is lost


@pytest.mark.parametrize(
    ("gone", "manifest"),
    [
        *((IMAGES, manifest) for manifest in ("missing", "cut", "both missing")),
        (METADATA, "missing"),
        (embeddings_file("CLIP"), "cut"),
        (CAPTION_TABLE, "both missing"),
    ],
)
def test_lost_manifest_loses_no_pictures(mirror, whole, whole_store, kept, capsys, manifest, gone):
    """Stored parts whose source files are gone from the mirror are left untouched."""
    path = kept / "stimuli" / "manifest.json"
    if manifest == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
    if manifest == "both missing":  # the consolidated metadata still lists them
        (kept / "manifest.json").unlink()
    (mirror / gone).unlink()
    before = tree_bytes(kept, "stimuli/*/**/*")
    for options in ([], ["--overwrite"], ["--overwrite", "--parts=metadata"], ["--parts=images"]):
        code = command(mirror, kept, *options)
        said = capsys.readouterr().err
        assert tree_bytes(kept, "stimuli/*/**/*") == before, options
        assert code == 1
        names_and_mends(said, "stimuli")
    shutil.copyfile(whole / gone, mirror / gone)
    assert command(mirror, kept, "--overwrite") == 0
    assert tree_bytes(kept) == tree_bytes(whole_store)


@pytest.mark.parametrize("damaged", [IMAGES, MASKS, CAPTION_TABLE])
def test_lost_manifest_and_a_damaged_file(mirror, whole, whole_store, kept, damaged):
    """A file that cannot be converted is no reason to write over what is stored of it."""
    (kept / "stimuli" / "manifest.json").unlink()
    part = {path: name for name, path in FILE_OF.items()}[damaged]
    before = tree_bytes(kept, f"stimuli/{part}/**/*")
    half(mirror, damaged)
    assert command(mirror, kept, "--overwrite") == 1
    assert tree_bytes(kept, f"stimuli/{part}/**/*") == before
    assert command(mirror, kept) == 1
    assert tree_bytes(kept, f"stimuli/{part}/**/*") == before
    shutil.copyfile(whole / damaged, mirror / damaged)
    assert command(mirror, kept, "--overwrite") == 0
    assert tree_bytes(kept) == tree_bytes(whole_store)
