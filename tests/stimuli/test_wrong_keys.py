"""Image names and rows that do not exist, on a mirror of six images."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from stimulus_mirror import NAMES, picture
from stimulus_mirror import whole as whole
from stimulus_mirror import whole_store as whole_store

from laion_zarr import load_stimuli, load_subject

UNSEEN = NAMES[5]  # no trial of sub-01 shows it


def test_image_that_no_subject_saw(whole_store):
    stim, sub = load_stimuli(whole_store), load_subject("01", whole_store)
    assert UNSEEN not in sub.metadata["label"].tolist()
    assert stim.images[UNSEEN] == picture(UNSEEN)
    assert UNSEEN in stim.images
    assert stim.captions.list(UNSEEN) == []
    assert stim.captions.ai(UNSEEN) is None
    assert stim.captions.get(UNSEEN).empty
    assert stim.segmentations.nouns(UNSEEN) == []
    assert stim.segmentations.for_image(UNSEEN).empty
    assert not stim.segmentations.has_image(UNSEEN)
    with pytest.raises(KeyError, match=re.escape(UNSEEN)):
        stim.segmentations.get(UNSEEN, "house")
    assert stim.dataset.sel(image=UNSEEN)["n_human_captions"] == 0


@pytest.mark.parametrize("key", ["nope.jpg", "", "shared_", NAMES[0].upper()])
def test_unknown_image(whole_store, key):
    stim = load_stimuli(whole_store)
    for ask in (
        lambda: stim.images[key],
        lambda: stim.images.get(key),
        lambda: stim.images.array([NAMES[0], key]),
        lambda: stim.embeddings.get("CLIP", key),
        lambda: stim.embeddings.get("CLIP", [NAMES[0], key]),
        lambda: stim.segmentations.get(key, "house"),
        lambda: stim.segmentations.nouns(key),
        lambda: stim.captions.list(key),
    ):
        with pytest.raises(KeyError) as caught:
            ask()
        assert repr(key) in str(caught.value)
    assert key not in stim.images


def test_image_name_where_a_trial_belongs_gets_its_trials(whole_store):
    sub = load_subject("01", whole_store)
    name = sub.metadata["label"].iloc[-1]
    trials = sub.metadata.index[sub.metadata["label"] == name].tolist()
    with pytest.raises(TypeError, match=rf"shown in trial {', '.join(map(str, trials[:3]))}"):
        sub.images.get(name)
    with pytest.raises(TypeError, match="load_stimuli"):
        sub.images.get(UNSEEN)


def test_misspelt_model_gets_the_nearest(whole_store):
    with pytest.raises(KeyError, match="Did you mean 'CLIP'"):
        load_subject("01", whole_store).embeddings.all("clip")


@pytest.mark.parametrize("key", [-1, 6, 10**20])
def test_row_out_of_range(whole_store, key):
    stim = load_stimuli(whole_store)
    for ask in (stim.images.get, stim.captions.list, lambda k: stim.embeddings.get("CLIP", k)):
        with pytest.raises(IndexError, match=str(key)):
            ask(key)
    with pytest.raises(IndexError, match=str(key)):
        load_subject("01", whole_store).images.get(key)


@pytest.mark.parametrize("key", [None, True, 1.5, b"a.jpg", (1, 2.5)])
def test_key_of_another_kind(whole_store, key):
    with pytest.raises(TypeError):
        load_stimuli(whole_store).images.get(key)


def test_dataset_without_pytorch(whole_store):
    """`torch_data` is imported without PyTorch; making a dataset says that PyTorch is missing."""
    code = (
        "import sys; sys.modules['torch'] = None; import laion_zarr.torch_data, laion_zarr; "
        f"laion_zarr.load_subject('01', {str(whole_store)!r}).to_torch_dataset()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: to_torch_dataset needs PyTorch")
    assert 'pip install "laion-zarr[torch]"' in last
