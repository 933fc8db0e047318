"""The sample's expected answers about stimuli: by name, standalone, and by a subject's trials.

The sample is not part of the project; where it is absent these tests are skipped.
"""

from __future__ import annotations

import csv
import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from places import EXPECTED, SAMPLE

from laion_zarr import (
    Captions,
    Segmentations,
    convert,
    load_embeddings,
    load_stimuli,
    load_subject,
)

pytestmark = pytest.mark.skipif(not EXPECTED.is_dir(), reason="the sample dataset is not here")

STIMULI = SAMPLE / "data" / "stimuli"
ANSWERS = json.loads((EXPECTED / "stimuli.json").read_text()) if EXPECTED.is_dir() else {}
IMAGES = ANSWERS.get("images", {})
SUBJECTS = ("sub-01", "sub-03")
WAYS = ("stimuli", "standalone", *SUBJECTS)


@pytest.fixture(scope="module")
def sample_store(tmp_path_factory):
    store = tmp_path_factory.mktemp("sample") / "store.zarr"
    report = convert(SAMPLE / "data", store, progress=False)
    assert not report.missing
    assert not report.failed
    return store


@pytest.fixture(scope="module")
def subjects(sample_store):
    return {name: load_subject(name, sample_store) for name in SUBJECTS}


@pytest.fixture(scope="module", params=WAYS)
def asked(request, sample_store, subjects):
    """Namespaces, and the keys that mean an image to them."""
    if request.param in SUBJECTS:
        sub = subjects[request.param]
        labels = sub.metadata["label"]
        return SimpleNamespace(
            images=sub.images,
            segmentations=sub.segmentations,
            captions=sub.captions,
            embeddings=sub.embeddings,
            keys=lambda name: np.flatnonzero(labels == name).tolist(),
        )
    stim = load_stimuli(sample_store)
    standalone = request.param == "standalone"
    return SimpleNamespace(
        images=stim.images,
        segmentations=Segmentations(sample_store) if standalone else stim.segmentations,
        captions=Captions(sample_store) if standalone else stim.captions,
        embeddings=load_embeddings(store=sample_store) if standalone else stim.embeddings,
        keys=lambda name: [name, stim.images.names().index(name)],
    )


def answers(asked):
    """Every expected answer, by every key that means its image; there are some."""
    found = [(key, IMAGES[name]) for name in IMAGES for key in asked.keys(name)]
    assert len(found) > 10
    return found


def test_files_and_pixels(asked):
    for key, answer in answers(asked):
        assert hashlib.sha256(asked.images[key]).hexdigest() == answer["sha256"]
        pixels = np.asarray(asked.images.get(key))
        assert list(pixels.shape) == answer["shape"]
        # Decoders of JPEG differ by a level or so.
        np.testing.assert_allclose(pixels.mean((0, 1)), answer["mean_rgb"], atol=1)


def test_nouns_and_masks(asked):
    segmentations = asked.segmentations
    for key, answer in answers(asked):
        assert segmentations.nouns(key, localized_only=False) == answer["nouns"]
        assert segmentations.nouns(key) == answer["localized_nouns"]
        assert segmentations.has_image(key) == bool(answer["localized_nouns"])
        rows = segmentations.for_image(key)
        assert rows["mask_row"].tolist() == [row["mask_row"] for row in answer["masks"]]
        for row in answer["masks"]:
            mask = segmentations.get(key, row["noun"], row["instance_id"])
            assert mask.sum().item() == row["area"]
            assert segmentations[row["mask_row"]].sum().item() == row["area"]


def test_captions(asked):
    for key, answer in answers(asked):
        captions = answer["captions"]
        by_people = [row["caption"] for row in captions if row["source"] == "human"]
        by_model = [row["caption"] for row in captions if row["source"] == "ai"]
        assert asked.captions.list(key) == [row["caption"] for row in captions]
        assert asked.captions.human(key) == by_people
        assert asked.captions.ai(key) == (by_model[0] if by_model else None)
        table = asked.captions.get(key)
        assert table[list(captions[0])].to_dict("records") == captions


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("model", ["CLIP", "DINOv2", "PEcore", "SigLIP2"])
def test_embeddings(sample_store, subjects, subject, model):
    expected = np.load(EXPECTED / "embeddings.npz")
    rows, valid = (expected[f"{model}_{subject}_ses-01{end}"] for end in ("", "_valid"))
    rows = np.where(valid[:, None], rows, np.float16(np.nan))
    sub, n = subjects[subject], len(rows)
    of_trials = sub.embeddings
    labels = sub.metadata["label"].tolist()[:n]
    stim = load_stimuli(sample_store)
    by_name = load_embeddings(model, store=sample_store)
    found = {
        "all": of_trials.all(model)[:n].values,
        "of the session": of_trials.all(model, session="ses-01")[:n].values,
        "trial by trial": np.array([of_trials.get(model, trial).values for trial in range(n)]),
        "trials": of_trials.get(model, range(n)).values,
        "by name": stim.embeddings[model].sel(image=labels).values,
        "names": stim.embeddings.get(model, labels).values,
        "standalone": by_name.get(model, labels).values,
        "dataset": stim.dataset[f"embedding_{model}"].sel(image=labels).values,
    }
    for way, values in found.items():
        assert values.dtype == np.float16, way
        np.testing.assert_array_equal(values, rows, way)


def test_some_embeddings_of_the_sample_are_invalid():
    expected = np.load(EXPECTED / "embeddings.npz")
    assert any(not expected[name].all() for name in expected if name.endswith("_valid"))


def test_metadata(sample_store, subjects):
    stim = load_stimuli(sample_store)
    counts = json.loads((EXPECTED / "summary.json").read_text())["stimuli"]
    assert len(stim) == len(stim.images) == counts["n_images"]
    assert len(stim.captions.metadata) == counts["n_captions"]
    assert stim.segmentations.masks.sizes["mask"] == counts["n_masks"]
    table = stim.metadata
    assert table.columns.tolist() == counts["columns"]
    kinds = (table["unique_or_shared"] + "/" + table["n_reps"]).value_counts()
    assert kinds.to_dict() == counts["by_kind"]
    with (STIMULI / "task-images_metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert stim.images.names() == [row["image_name"] for row in rows]
    for table in (stim.metadata, *(sub.get_stimulus_metadata() for sub in subjects.values())):
        for name, answer in IMAGES.items():
            (found,) = table[table["image_name"] == name].to_dict("records")
            score = float(answer["metadata"]["aesthetic_score"] or "nan")
            assert found.pop("aesthetic_score") == pytest.approx(score, nan_ok=True)
            assert found == {k: v for k, v in answer["metadata"].items() if k in found}
            assert len(found) == len(answer["metadata"]) - 1


def test_dataset(sample_store):
    dataset = load_stimuli(sample_store).dataset
    for name, answer in IMAGES.items():
        one = dataset.sel(image=name)
        assert [one["height"].item(), one["width"].item(), 3] == answer["shape"]
        people = sum(row["source"] == "human" for row in answer["captions"])
        assert one["n_human_captions"].item() == people
        assert one["n_ai_captions"].item() == len(answer["captions"]) - people
        assert one["dataset"].item() == answer["metadata"]["dataset"]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_rows_are_those_of_the_betas(subjects, subject):
    """The first labels of each session, as expected, at the same places everywhere."""
    sub = subjects[subject]
    pictures, features = sub.images.array(), sub.embeddings.all("CLIP")
    for name, labels in ANSWERS["first_labels"].items():
        if name.startswith(subject):
            session = name.split()[1]
            betas = sub.get_betas(session=session)
            mine = [array.sel(trial=betas["trial"]) for array in (pictures, features)]
            mine += [sub.images.array(session), sub.embeddings.all("CLIP", session)]
            for array in (betas, *mine):
                assert array["image_name"].values[: len(labels)].tolist() == labels
                assert array["trial"].values.tolist() == betas["trial"].values.tolist()
