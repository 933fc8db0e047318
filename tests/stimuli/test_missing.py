"""Images, masks and captions that do not exist: errors that say what exists."""

from __future__ import annotations

import numpy as np
import pytest
from stimulus_release import both as both
from stimulus_release import odd_root as odd_root
from stimulus_release import odd_store as odd_store
from stimulus_release import release as release
from stimulus_release import stim as stim

from laion_zarr import load_embeddings
from laion_zarr.errors import NotConvertedError, StimuliNotDownloadedError

KEYS = {
    "unknown name": ("nobody.jpg", KeyError, "'nobody.jpg'.*34 images, such as 'u"),
    "empty name": ("", KeyError, "34 images"),
    "row too large": (34, IndexError, "34.*out of range"),
    "negative row": (-1, IndexError, "out of range"),
    "numpy row": (np.int64(99), IndexError, "99 is out of range"),
    "float": (1.0, TypeError, "image name or row.*1.0"),
    "bool": (True, TypeError, "image name or row"),
    "none": (None, TypeError, "image name or row"),
    "bytes": (b"x", TypeError, "image name or row"),
}
ASK = {
    "[]": lambda stim, key: stim.images[key],
    "get": lambda stim, key: stim.images.get(key),
    "array": lambda stim, key: stim.images.array([0, key]),
    "embedding": lambda stim, key: stim.embeddings.get("CLIP", key),
    "embeddings": lambda stim, key: stim.embeddings.get("CLIP", [0, key]),
    "nouns": lambda stim, key: stim.segmentations.nouns(key),
    "mask": lambda stim, key: stim.segmentations.get(key, "dog"),
    "for_image": lambda stim, key: stim.segmentations.for_image(key),
    "has_image": lambda stim, key: stim.segmentations.has_image(key),
    "captions": lambda stim, key: stim.captions.list(key),
    "caption": lambda stim, key: stim.captions.ai(key),
    "human": lambda stim, key: stim.captions.human(key),
    "get captions": lambda stim, key: stim.captions.get(key),
}


@pytest.mark.parametrize("ask", ASK.values(), ids=list(ASK))
@pytest.mark.parametrize(("key", "error", "text"), KEYS.values(), ids=list(KEYS))
def test_keys_that_mean_no_image(stim, ask, key, error, text):
    with pytest.raises(error, match=text):
        ask(stim, key)
    assert key not in stim.images
    assert key not in stim.captions


@pytest.mark.parametrize("ask", [ask for name, ask in ASK.items() if name != "array"])
@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        (51, IndexError, "51 is out of range"),
        (-1, IndexError, "out of range"),
        ("shared_1.jpg", TypeError, "global trial index"),
        (2.0, TypeError, "global trial index"),
    ],
)
def test_keys_that_mean_no_trial(sub, ask, key, error, text):
    with pytest.raises(error, match=text):
        ask(sub, key)
    assert key not in sub.images


def test_unknown_model(stim, sub, store):
    for ask in (
        lambda: stim.embeddings["clip"],
        lambda: stim.embeddings.get("clip", 0),
        lambda: sub.embeddings.all("clip"),
        lambda: sub.embeddings.get("clip", 0),
    ):
        with pytest.raises(KeyError, match=r"'clip'.*CLIP, DINOv2, PEcore, SigLIP2"):
            ask()
    with pytest.raises(StimuliNotDownloadedError, match=r"'clip'.*CLIP.*download-embeddings"):
        load_embeddings(["CLIP", "clip"], store=store)
    assert "CLIP" in stim.embeddings
    assert "clip" not in stim.embeddings


@pytest.mark.parametrize("session", ["ses-09", "xx"])
def test_unknown_session(sub, session):
    bulk = (
        sub.images.array,
        lambda ses: list(sub.images.all(ses)),
        lambda ses: sub.embeddings.all("CLIP", ses),
    )
    for ask in bulk:
        with pytest.raises(NotConvertedError, match="there are ses-01, ses-02"):
            ask(session)


def test_unknown_masks(stim, release):
    row = release.segments[0]
    name = row["image_name"]
    for noun, instance in ((row["noun"], 99), ("unicorn", 0), (row["noun"], -1), ("", 0)):
        with pytest.raises(KeyError, match=f"{noun!r}.*{instance}.*Masks of it: .*{row['noun']}"):
            stim.segmentations.get(name, noun, instance)
    bare = next(n for n in release.names if not release.of(release.segments, n))
    with pytest.raises(KeyError, match="none"):
        stim.segmentations.get(bare, "dog")
    for number in (-1, len(release.masks)):
        with pytest.raises(IndexError, match=f"{number} is out of range.*{len(release.masks)}"):
            stim.segmentations[number]


@pytest.mark.parametrize("source", ["humans", "", "AI", 1])
def test_unknown_source(stim, source):
    with pytest.raises(ValueError, match=r"'human'.*'ai'"):
        stim.captions.list(0, source=source)


def test_an_image_without_anything(both):
    release, stim = both
    bare = [n for n in release.names if not release.of(release.segments, n)]
    assert bare
    for name in bare:
        assert stim.segmentations.nouns(name) == []
        assert stim.segmentations.nouns(name, localized_only=False) == []
        assert stim.segmentations.has_image(name) is False
        assert stim.segmentations.for_image(name).empty
        assert "noun" in stim.segmentations.for_image(name)
    silent = [n for n in release.names if not release.of(release.captions, n)]
    for name in silent:
        assert stim.captions.list(name) == stim.captions.human(name, limit=1) == []
        assert stim.captions.ai(name) is None
        assert stim.captions.get(name).columns.tolist() == list(release.captions[0])
    assert silent or "CLIP" in stim.embeddings
