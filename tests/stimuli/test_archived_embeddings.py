"""Embeddings of an earlier generation, beside today's: models such as ``CLIP@v1``."""

from __future__ import annotations

import json
import os
import shutil

import h5py
import numpy as np
import pytest
from converting import quiet
from trees import tree_bytes

from laion_zarr import _release as release
from laion_zarr import compat, load_embeddings, load_stimuli, load_subject, verify
from laion_zarr.conversion import outdated
from laion_zarr.conversion.cli import main
from laion_zarr.errors import SourceError, StimuliNotDownloadedError

SUB, V1 = "sub-03", "CLIP@v1"
FILE = release.embeddings(V1)


def archive(mirror, change=lambda file: None):
    """Put an earlier generation of CLIP into a mirror: rows in another order, other values."""
    (mirror / FILE).parent.mkdir(parents=True)
    with (
        h5py.File(mirror / release.embeddings("CLIP")) as today,
        h5py.File(mirror / FILE, "w") as first,
    ):
        rows = np.random.default_rng(1).permutation(len(today["image_ids"]))
        first["embedding"] = today["embedding"][:][rows] * np.float16(2)
        first["valid"] = today["valid"][:][rows]
        names = today["image_ids"].asstr()[:][rows].tolist()
        first.create_dataset("image_ids", data=names, dtype=h5py.string_dtype())
        change(first)


@pytest.fixture(scope="module")
def mirror(bids_root, tmp_path_factory):
    """A mirror with an archived file; all others are links."""
    root = tmp_path_factory.mktemp("archived") / "mirror"
    shutil.copytree(bids_root, root, copy_function=os.link)
    archive(root)
    return root


@pytest.fixture(scope="module")
def both(mirror, store, tmp_path_factory):
    """A store that was converted before there was an archive, and then again."""
    path = tmp_path_factory.mktemp("both") / store.name
    shutil.copytree(store, path)
    (found,) = outdated(mirror, path).differences
    assert (found.subject, found.part, found.state) == ("stimuli", "embeddings", "new")
    assert (found.name, found.files) == (f"embeddings/{V1}", (str(FILE),))
    report = quiet(mirror, path)
    assert report.converted == [f"stimuli embeddings/{V1}"]
    assert not outdated(mirror, path)
    return path


def as_published(mirror, names):
    """Embeddings of images by the archived file, read with h5py."""
    with h5py.File(mirror / FILE) as file:
        values, row_of = file["embedding"][:], file["image_ids"].asstr()[:].tolist()
        values[~file["valid"][:]] = np.nan
    return values[[row_of.index(name) for name in names]]


def test_nothing_else_is_touched(both, store, mirror, tmp_path):
    """What was there is there, byte for byte; a first conversion makes the same store."""
    before, after = tree_bytes(store), tree_bytes(both)
    new = f"stimuli/embeddings/{V1}/"
    changed = {key for key in after if before.get(key) != after[key] and not key.startswith(new)}
    assert changed == {"zarr.json", "manifest.json", "stimuli/manifest.json"}
    assert before.keys() <= after.keys()
    quiet(mirror, tmp_path / "s.zarr")
    assert tree_bytes(tmp_path / "s.zarr") == after


def test_values_are_those_of_the_file(both, mirror, store):
    stim = load_stimuli(both)
    models = sorted([*load_stimuli(store).embeddings.models, V1])
    assert stim.embeddings.models == models
    assert V1 in stim.embeddings
    names = stim.metadata["image_name"].tolist()
    expected = as_published(mirror, names)
    np.testing.assert_array_equal(stim.embeddings[V1].values, expected)
    np.testing.assert_array_equal(stim.embeddings.get(V1, names[3]).values, expected[3])
    np.testing.assert_array_equal(stim.dataset[f"embedding_{V1}"].values, expected)
    np.testing.assert_array_equal(load_embeddings(V1, store=both)[V1].values, expected)
    assert load_embeddings("all", store=both).models == models
    assert not np.array_equal(stim.embeddings["CLIP"].values, expected, equal_nan=True)


def test_by_trial_and_as_numpy(both, mirror):
    sub = load_subject(SUB, both)
    expected = as_published(mirror, sub.metadata["image_name"])
    np.testing.assert_array_equal(sub.embeddings.all(V1).values, expected)
    assert V1 in sub.embeddings.models
    theirs = compat.load_embeddings(V1, store=both)
    assert type(theirs[V1]) is np.ndarray
    np.testing.assert_array_equal(theirs[V1], load_embeddings(V1, store=both)[V1].values)
    np.testing.assert_array_equal(compat.load_subject(SUB, store=both).embeddings.all(V1), expected)


def test_in_a_torch_dataset(both, mirror):
    pytest.importorskip("torch")
    sub = load_subject(SUB, both)
    data = sub.to_torch_dataset("ses-01", roi="FFA1", include=f"embedding:{V1}")
    expected = as_published(mirror, [sub.metadata["image_name"][2]])[0]
    np.testing.assert_array_equal(data[2][f"embedding:{V1}"], expected)


def test_checked_as_the_others_are(both, mirror, copy_of, monkeypatch, capsys):
    assert verify(both, mirror, deep=True, progress=False).notes == []
    own, other = copy_of(both), mirror.parent / "other"
    shutil.copytree(mirror, other, copy_function=os.link)
    (other / FILE).unlink()
    with h5py.File(mirror / FILE) as old, h5py.File(other / FILE, "w") as new:
        for name in old:
            old.copy(name, new)
        new["embedding"][4, 1] += 1
    (problem,) = main_errors(capsys, ["verify", "--source", str(other), "--store", str(own)])
    assert f"embeddings/{V1}" in problem
    chunk = next((own / "stimuli" / "embeddings" / V1).rglob("c/0/0"))
    chunk.write_bytes(chunk.read_bytes()[:-1])
    (problem,) = main_errors(capsys, ["verify", "--store", str(own)])
    assert f"embeddings/{V1}/embedding/c/0/0" in problem
    monkeypatch.setenv("LAION_ZARR_DATA_DIR", str(mirror))
    assert main(["info", "--store", str(both)]) == 0
    assert capsys.readouterr().out.count(f"embeddings/{V1}") == 2  # of the mirror, of the store


def main_errors(capsys, command):
    assert main([*command, "--quiet"]) == 1
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]


def test_a_store_without_says_how_to_get_it(store):
    for ask in (lambda: load_embeddings(V1, store=store), lambda: load_embeddings("X@v1", store)):
        with pytest.raises(StimuliNotDownloadedError, match=r"embeddings --revision v1'.*convert"):
            ask()
    with pytest.raises(StimuliNotDownloadedError, match="laion-zarr download-embeddings'"):
        load_embeddings("none", store=store)
    with pytest.raises(KeyError, match=V1):
        load_stimuli(store).embeddings[V1]


def same_name_twice(file):
    file["image_ids"][1] = file["image_ids"][0]


def fewer_rows(file):
    del file["valid"]
    file["valid"] = np.ones(3, bool)


@pytest.mark.parametrize("change", [same_name_twice, fewer_rows])
def test_a_damaged_file_fails_itself_alone(bids_root, tmp_path, change):
    root = tmp_path / "mirror"
    shutil.copytree(bids_root / "stimuli", root / "stimuli", copy_function=os.link)
    archive(root, change)
    with pytest.raises(SourceError, match=f"{FILE}.*expected"):
        quiet(root, tmp_path / "s.zarr")
    assert load_stimuli(tmp_path / "s.zarr").embeddings.models == sorted(
        release.embedding_files([f"stimuli/{path.name}" for path in root.glob("stimuli/*")])
    )


def test_an_archive_alone_is_enough(mirror, tmp_path):
    """A mirror in which nothing is but the archived file; the name of the group is legal Zarr."""
    (tmp_path / FILE).parent.mkdir(parents=True)
    shutil.copy(mirror / FILE, tmp_path / FILE)
    quiet(tmp_path, tmp_path / "s.zarr")
    found = load_embeddings("all", store=tmp_path / "s.zarr")
    assert found.models == [V1]
    path = tmp_path / "s.zarr" / "stimuli" / "embeddings" / V1 / "zarr.json"
    assert json.loads(path.read_text())["node_type"] == "group"


def test_names_of_models_and_files():
    """A model's name and its file belong to each other, whatever lies beside."""
    names = ["archive/embeddings/v1/other.h5", "archive/embeddings/vX/x.h5", str(FILE)]
    names += [str(release.embeddings(model)) for model in ("CLIP", "CLIP@v12", "PEcore@v1")]
    found = release.embedding_files(names)
    assert list(found) == ["CLIP", "CLIP@v1", "CLIP@v12", "PEcore@v1"]
    assert all(str(release.embeddings(model)) == file for model, file in found.items())
    assert {model: release.embedding_revision(model) for model in ("CLIP", "CLIP@v12")} == {
        "CLIP": None,
        "CLIP@v12": "v12",
    }
