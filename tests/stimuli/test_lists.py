"""What takes one image, trial, row or model takes a list of them as well."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from laion_zarr import load_stimuli
from laion_zarr.compat import load_stimuli as numpy_stimuli
from laion_zarr.compat import load_subject as numpy_subject


@pytest.fixture(params=["stimuli", "subject"])
def seen(request, store, sub):
    """What is asked, some of its keys (the first one twice), and the dim that they are along."""
    if request.param == "subject":
        covered = np.flatnonzero([sub.segmentations.has_image(n) for n in range(20)]).tolist()
        return sub, [*covered[:3][::-1], covered[2]], "trial"
    stim = load_stimuli(store)
    names = stim.segmentations.images()
    rows = [names[2], stim.images.names().index(names[0]), names[1]]  # names and rows together
    return stim, [*rows, rows[0]], "image"


def test_pictures(seen):
    whole, keys, dim = seen
    for as_displayed in (True, False):
        found = whole.images.get(keys, as_displayed)
        one_by_one = [whole.images.get(key, as_displayed) for key in keys]
        assert [image.tobytes() for image in found] == [one.tobytes() for one in one_by_one]
    assert whole.images[keys] == [whole.images[key] for key in keys]
    array = whole.images.array(keys)
    assert array.dims == (dim, "y", "x", "channel")
    expected = np.stack([np.asarray(image) for image in whole.images.get(keys)])
    np.testing.assert_array_equal(array, expected)
    assert whole.images.get(keys[:1])[0].tobytes() == whole.images.get(keys[0]).tobytes()
    assert whole.images.get([]) == whole.images[[]] == []


def test_pictures_of_trials_or_sessions(sub):
    np.testing.assert_array_equal(sub.images.array([1, 2])["trial"], [1, 2])
    np.testing.assert_array_equal(sub.images.array(np.int64(3))["trial"], [3])
    second = sub.images.array(session=2)
    assert set(second["session"].values) == {"ses-02"}
    for given in ("ses-02", ["ses-02"], "02"):
        assert sub.images.array(given).identical(second)
    with pytest.raises(ValueError, match="exclude each other"):
        sub.images.array([1], session=1)
    with pytest.raises(IndexError, match="out of range"):
        sub.images.array([1, 10**6])


def test_captions(seen):
    whole, keys, dim = seen
    captions = whole.captions
    assert captions.list(keys) == [captions.list(key) for key in keys]
    assert captions.list(keys, "ai") == [captions.list(key, "ai") for key in keys]
    assert captions.human(tuple(keys), 1) == [captions.human(key, 1) for key in keys]
    assert captions.ai(np.array(keys, dtype=object)) == [captions.ai(key) for key in keys]
    expect_joined(captions.get, keys, dim)


def test_segmentations(seen):
    whole, keys, dim = seen
    masks = whole.segmentations
    assert masks.nouns(keys) == [masks.nouns(key) for key in keys]
    assert masks.nouns(keys, False) == [masks.nouns(key, False) for key in keys]
    assert masks.has_image(keys) == [masks.has_image(key) for key in keys]
    expect_joined(masks.for_image, keys, dim)
    noun = masks.nouns(keys[0], False)[0]
    same = [keys[0], keys[-1]] if keys[0] == keys[-1] else [keys[0], keys[0]]
    found, one = masks.get(same, noun), masks.get(same[0], noun)
    assert found.dims == (dim, "y", "x")
    np.testing.assert_array_equal(found, np.stack([one, one]))
    assert found["mask_row"].values.tolist() == [one["mask_row"].item()] * 2
    assert found["noun"].values.tolist() == [noun, noun]
    with pytest.raises(KeyError, match="There is no mask of 'nothing'"):
        masks.get(keys, "nothing")
    rows = [2, 0, 2]
    np.testing.assert_array_equal(masks[rows], np.stack([masks[row] for row in rows]))
    assert masks[rows]["mask"].values.tolist() == rows
    with pytest.raises(IndexError, match="out of range"):
        masks[[0, 10**6]]


def expect_joined(ask, keys, dim):
    """One table for several keys is the tables of each, one after the other."""
    parts = [ask(key) for key in keys]
    if dim == "trial":
        parts = [
            part.assign(trial=key)[["trial", *part]] for part, key in zip(parts, keys, strict=True)
        ]
    pd.testing.assert_frame_equal(ask(keys), pd.concat(parts, ignore_index=True))
    assert ask([]).empty
    assert list(ask([])) == list(ask(keys))


def test_models(seen):
    whole, keys, _ = seen
    models = ["SigLIP2", "CLIP"]
    found = whole.embeddings.get(models, keys)
    assert list(found) == models
    for model in models:
        assert found[model].identical(whole.embeddings.get(model, keys))
        assert whole.embeddings[models][model].identical(whole.embeddings[model])
    with pytest.raises(KeyError, match="nothing"):
        whole.embeddings.get(["CLIP", "nothing"], keys)


def test_models_of_all_trials(sub):
    found = sub.embeddings.all(["CLIP", "PEcore"], session=2)
    assert found["PEcore"].identical(sub.embeddings.all("PEcore", session="ses-02"))


def test_numpy_answers(store, sub):
    stim, labelled = numpy_stimuli(store=store), load_stimuli(store)
    names = labelled.segmentations.images()[:2]
    assert stim.images[names] == labelled.images[names]
    assert len(stim.images.get(names)) == 2
    assert stim.captions.list(names) == labelled.captions.list(names)
    noun = labelled.segmentations.nouns(names[0], False)[0]
    masks = stim.segmentations.get([names[0]], noun)
    assert type(masks) is np.ndarray
    assert masks.ndim == 3
    seen = numpy_subject("01", store)
    assert type(seen.images.array("ses-01")) is np.ndarray
    assert {type(its) for its in stim.embeddings.get(["CLIP"], names).values()} == {np.ndarray}
