"""Downloads of an earlier generation of the embeddings, into the archive of the mirror."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trees import tree_bytes

from laion_zarr import _release as release
from laion_zarr import download_embeddings, load_embeddings
from laion_zarr.conversion.cli import main
from laion_zarr.download import license

V1 = {model: str(release.embeddings(f"{model}@v1")) for model in ("CLIP", "PEcore")}
METADATA = str(release.STIMULUS_METADATA)


@pytest.fixture
def archive(front, bucket_root):
    """The bucket with two archived files, which are those of today, and a file of another kind."""
    license.keep()
    for model, key in V1.items():
        front.put(key, (bucket_root / release.embeddings(model)).read_bytes())
    front.put(f"{release.EMBEDDING_ARCHIVE}/v1/README", b"what was replaced")
    return front


@pytest.fixture
def data():
    return Path(os.environ["LAION_ZARR_DATA_DIR"])


def names(root):
    return {name for name in tree_bytes(root) if not name.startswith(".")}


def test_lies_beside_todays(archive, data, bucket_root):
    assert sorted(download_embeddings("CLIP", revision="v1").fetched) == sorted(
        [V1["CLIP"], METADATA]
    )
    assert (data / V1["CLIP"]).read_bytes() == (
        bucket_root / release.embeddings("CLIP")
    ).read_bytes()
    download_embeddings("CLIP")
    assert names(data) == {V1["CLIP"], METADATA, str(release.embeddings("CLIP"))}
    assert not download_embeddings("CLIP", "v1").fetched


def test_from_the_command_line_to_the_store(archive, data, tmp_path):
    assert main(["download-embeddings", "--revision", "v1", "--quiet"]) == 0
    assert names(data) == {*V1.values(), METADATA}
    assert main(["convert", "--store", str(tmp_path / "s.zarr"), "--quiet"]) == 0
    assert load_embeddings(store=tmp_path / "s.zarr").models == ["CLIP@v1", "PEcore@v1"]


@pytest.mark.parametrize(
    ("models", "revision", "says"),
    [
        (None, "v2", r"no revision 'v2'.*one of: v1;"),
        (None, 1, r"no revision 1 .*one of: v1;"),
        ("SigLIP2", "v1", r"'SigLIP2'.*one or more of: CLIP, PEcore\."),
        ("CLIP@v1", None, r"'CLIP@v1'.*one or more of: CLIP, DINOv2, PEcore, SigLIP2"),
    ],
)
def test_what_there_is_not(archive, data, models, revision, says):
    with pytest.raises(ValueError, match=says):
        download_embeddings(models, revision)
    assert not archive.gets()


def test_a_bucket_without_archive(front, data):
    license.keep()
    with pytest.raises(ValueError, match=r"no revision 'v1'.*\(none\)"):
        download_embeddings(revision="v1")
