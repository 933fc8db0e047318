"""The stimuli of a subject's trials: what the files of the mirror say of the trials' images."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from stimulus_release import labels as labels
from stimulus_release import once_each, same_bits, shown, texts
from stimulus_release import release as release

from laion_zarr import load_subject


def test_namespaces_by_trial(sub, release, labels):
    features = release.embedding("CLIP", labels)
    assert sub.images.names() == labels
    assert len(sub.images) == len(labels)
    assert list(sub.images) == [(name, release.pictures[name]) for name in labels]
    for trial, name in enumerate(labels):
        for key in (trial, np.int32(trial)):
            assert key in sub.images
            assert sub.images[key] == release.pictures[name]
            np.testing.assert_array_equal(sub.images.get(key), shown(release.pictures[name]))
            same_bits(sub.embeddings.get("CLIP", key), features[trial])
            rows = release.of(release.segments, name)
            assert sub.segmentations.nouns(key, False) == once_each(row["noun"] for row in rows)
            assert len(sub.segmentations.for_image(key)) == len(rows)
            for row in rows:
                mask = sub.segmentations.get(key, row["noun"], int(row["instance_id"]))
                np.testing.assert_array_equal(mask, release.masks[int(row["mask_row"])])
            said = release.of(release.captions, name)
            assert sub.captions.list(key) == texts(said, "human", "ai")
            assert sub.captions.human(key, limit=1) == texts(said, "human")[:1]
            assert (key in sub.captions) is bool(said)


@pytest.mark.parametrize("session", [None, "ses-01", "ses-02", "02"])
def test_bulk_by_trial(sub, release, session):
    betas = sub.get_betas(session=session)
    table = sub.metadata
    mine = table if session is None else table[table["session"] == f"ses-{session[-2:]}"]
    names = mine["label"].tolist()
    pictures, features = sub.images.array(session), sub.embeddings.all("SigLIP2", session)
    assert pictures.dims == ("trial", "y", "x", "channel")
    assert features.dims == ("trial", "feature")
    assert pictures.chunks is not None
    assert features.chunks is not None
    assert pictures["trial"].values.tolist() == mine.index.tolist()
    np.testing.assert_array_equal(pictures, [shown(release.pictures[name]) for name in names])
    same_bits(features, release.embedding("SigLIP2", names))
    listed = [np.asarray(image) for image in sub.images.all(session)]
    np.testing.assert_array_equal(listed, pictures)
    resized = sub.images.array(session, size=(7, 9))
    assert resized.shape == (len(names), 7, 9, 3)
    of_trials = {name for name, coord in betas.coords.items() if coord.dims == ("trial",)}
    for array in (pictures, features, resized):
        assert {n for n, c in array.coords.items() if c.dims == ("trial",)} == of_trials
        for name in of_trials:
            xr.testing.assert_identical(
                array[name].variable.to_base_variable(), betas[name].variable.to_base_variable()
            )
        aligned = xr.align(betas, array, join="exact")
        assert aligned[1].sizes["trial"] == len(names)


def test_arithmetic_with_betas(sub, release, labels):
    betas, features = sub.get_betas(roi="face"), sub.embeddings.all("DINOv2")
    there = features.notnull().all("feature").compute()
    product = xr.dot(betas[there], features[there].astype("f8"), dim="trial")
    expected = release.embedding("DINOv2", labels).astype("f8")
    valid = ~np.isnan(expected).any(axis=1)
    np.testing.assert_allclose(
        product.transpose("voxel", "feature"),
        betas.values[valid].T.astype("f8") @ expected[valid],
        rtol=1e-6,
    )
    mixed = (betas * features.isel(feature=2)).compute()
    np.testing.assert_array_equal(mixed, betas.values * expected[:, [2]].astype("f4"), strict=False)
    backwards = (betas + features[::-1, 0]).compute()  # by label, whatever the order
    order = [labels[trial] for trial in backwards["trial"].values]
    assert backwards["image_name"].values.tolist() == order
    whole = sub.dataset.assign(CLIP=sub.embeddings.all("CLIP"), pictures=sub.images.array())
    assert whole.sizes["trial"] == len(labels)
    means = whole["CLIP"].groupby("image_name").first().compute()
    same_bits(means, release.embedding("CLIP", means["image_name"].values.tolist()))


def test_subjects_differ(store, release):
    other = load_subject("03", store)
    names = other.metadata["label"].tolist()
    assert other.images.names() == names
    same_bits(other.embeddings.all("CLIP"), release.embedding("CLIP", names))
    assert other.has_stimuli()
