"""`verify` finds stimulus files that changed, and values that differ."""

from __future__ import annotations

import json

import pytest
from stimulus_mirror import (
    CAPTION_TABLE,
    FILE_OF,
    HTML,
    IMAGES,
    MASKS,
    METADATA,
    NAMES,
    SEGMENTATION_TABLE,
    caption_table,
    command,
    embedding_arrays,
    embeddings_file,
    mask_array,
    metadata_table,
    names_and_mends,
    picture,
    put,
    segmentation_table,
    write_csv,
    write_embeddings,
    write_masks,
    write_pictures,
)
from stimulus_mirror import kept as kept
from stimulus_mirror import mirror as mirror
from stimulus_mirror import whole as whole
from stimulus_mirror import whole_store as whole_store
from trees import tree_bytes

from laion_zarr import verify as verify_store
from laion_zarr.conversion.cli import main
from laion_zarr.errors import StoreError
from laion_zarr.store.manifest import dump_manifest


def change_picture(root):
    write_pictures(root, [picture(name) for name in [NAMES[1], NAMES[0], *NAMES[2:]]])


def change_caption(root):
    table = caption_table()
    table.loc[0, "caption"] = ""
    write_csv(root, CAPTION_TABLE, table)


def change_mask(root):
    masks = mask_array()
    masks[2, 3, 4] ^= 1
    write_masks(root, masks)


def change_segment(root):
    write_csv(root, SEGMENTATION_TABLE, segmentation_table().assign(instance_id=[1, 0, 0, 0]))


def change_embedding(root):
    values = embedding_arrays("CLIP")["embedding"].copy()
    values[2, 3] = -values[2, 3]
    write_embeddings(root, "CLIP", embedding=values)


def change_valid(root):
    valid = embedding_arrays("CLIP")["valid"].copy()
    valid[3] = False
    write_embeddings(root, "CLIP", valid=valid)


def change_metadata(root):
    write_csv(root, METADATA, metadata_table().assign(score=[0.5, 1.25, -3.0, 4.0, 5.0, 1.1e-7]))


CHANGES = {
    "picture": ("images", IMAGES, change_picture),
    "caption": ("captions", CAPTION_TABLE, change_caption),
    "mask": ("segmentations", MASKS, change_mask),
    "segment": ("segmentations", SEGMENTATION_TABLE, change_segment),
    "embedding": ("embeddings/CLIP", embeddings_file("CLIP"), change_embedding),
    "valid": ("embeddings/CLIP", embeddings_file("CLIP"), change_valid),
    "metadata": ("metadata", METADATA, change_metadata),
}


@pytest.mark.parametrize("case", CHANGES)
def test_verify_finds_a_changed_source(mirror, whole, whole_store, kept, capsys, case):
    _, path, change = CHANGES[case]
    before = tree_bytes(kept)
    assert not verify_store(kept, mirror, deep=True, progress=False).notes
    change(mirror)
    for deep in (False, True):
        with pytest.raises(StoreError) as caught:
            verify_store(kept, mirror, deep=deep, progress=False)
        names_and_mends(str(caught.value), mirror / path, "laion-zarr convert")
    options = ["--store", str(kept), "--source", str(mirror), "--quiet"]
    assert main(["verify", *options]) == 1
    assert str(mirror / path) in capsys.readouterr().err
    assert tree_bytes(kept) == before
    assert command(mirror, kept) == 0
    assert main(["verify", "--deep", *options]) == 0
    assert tree_bytes(kept) != before


@pytest.mark.parametrize("case", CHANGES)
def test_deep_verify_compares_values(mirror, whole, whole_store, kept, capsys, case):
    """A store that says it was made from a file, and holds other values."""
    part, _, change = CHANGES[case]
    change(mirror)
    assert command(mirror, kept) == 0
    manifests = [
        json.loads((s / "stimuli/manifest.json").read_bytes()) for s in (kept, whole_store)
    ]
    changed, original = manifests
    assert changed["parts"][part]["sources"] != original["parts"][part]["sources"]
    for name, entry in changed["parts"].items():
        entry["sources"] = original["parts"][name]["sources"]
    (kept / "stimuli/manifest.json").write_bytes(dump_manifest(changed))
    assert not verify_store(kept, whole, progress=False).problems
    with pytest.raises(StoreError) as caught:
        verify_store(kept, whole, deep=True, progress=False)
    names_and_mends(str(caught.value), f"stimuli/{part}", "convert --overwrite")
    options = ["--store", str(kept), "--source", str(whole), "--quiet"]
    assert main(["verify", "--deep", *options]) == 1
    said = capsys.readouterr().err
    assert f"stimuli/{part}" in said
    assert "'laion-zarr convert --overwrite'" in said
    assert main(["convert", "--overwrite", *options, "--n-workers", "1"]) == 0
    assert main(["verify", "--deep", *options]) == 0
    assert tree_bytes(kept) == tree_bytes(whole_store)


def test_verify_without_the_source_files(mirror, kept):
    """Files that the mirror no longer has are named and not compared."""
    for path in (mirror / "stimuli").iterdir():
        path.unlink()
    report = verify_store(kept, mirror, deep=True, progress=False)
    assert not report.problems
    for path in (*FILE_OF.values(), SEGMENTATION_TABLE):
        assert any(path in note for note in report.notes)


@pytest.mark.parametrize("path", sorted({*FILE_OF.values(), SEGMENTATION_TABLE}))
def test_deep_verify_of_a_damaged_source(mirror, kept, path):
    """Said as any other change; nothing of h5py or pandas comes out."""
    put(mirror, path, HTML)
    with pytest.raises(StoreError) as caught:
        verify_store(kept, mirror, deep=True, progress=False)
    names_and_mends(str(caught.value), mirror / path)
