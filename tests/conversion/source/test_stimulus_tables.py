"""Tables of the stimuli that are unusual and valid, and labels without metadata."""

from __future__ import annotations

import re

import numpy as np
import pytest
from stimulus_mirror import (
    CAPTION_TABLE,
    METADATA,
    NAMES,
    SEGMENTATION_TABLE,
    SHOWN,
    caption_table,
    check,
    command,
    picture,
    put,
    same_text,
    segmentation_table,
    text_table,
    write_csv,
    write_trials,
)
from stimulus_mirror import mirror as mirror
from stimulus_mirror import new as new
from stimulus_mirror import whole as whole
from stimulus_mirror import whole_store as whole_store

from laion_zarr import load_stimuli, load_subject
from laion_zarr import verify as verify_store


def test_captions_are_literal(whole_store):
    stim, sub = load_stimuli(whole_store), load_subject("01", whole_store)
    assert stim.captions.list(NAMES[1]) == ["None", "", "NA", "nan"]
    assert stim.captions.human(NAMES[1]) == ["", "NA", "nan"]
    assert stim.captions.ai(NAMES[1]) == "None"
    assert stim.captions.ai(NAMES[0]) is None
    assert sub.captions.list(0) == stim.captions.list(SHOWN[0])
    assert stim.captions.get(NAMES[0])["participant_id"].tolist() == ["NA", "c0"]
    assert stim.captions.list(NAMES[2], "human") == ["ein Café — 日本 🐈"]


@pytest.mark.parametrize("part", ["captions", "segmentations"])
def test_table_without_rows(mirror, new, part):
    """A header and nothing below it: nothing is covered, and that is no error."""
    if part == "captions":
        write_csv(mirror, CAPTION_TABLE, caption_table().iloc[:0])
    else:
        write_csv(mirror, SEGMENTATION_TABLE, segmentation_table().iloc[:0])
    assert command(mirror, new) == 0
    check(mirror, new)
    stim = load_stimuli(new)
    assert stim.captions.list(NAMES[0]) == [] or part != "captions"
    assert stim.segmentations.nouns(NAMES[1]) == [] or part != "segmentations"
    assert not verify_store(new, mirror, deep=True, progress=False).problems


def test_odd_spellings_of_a_table(mirror, whole, new):
    """A byte order mark and Windows line ends change nothing of what is said."""
    for path in (METADATA, SEGMENTATION_TABLE):
        data = (mirror / path).read_bytes()
        put(mirror, path, b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))
    assert command(mirror, new) == 0
    stim = load_stimuli(new)
    same_text(stim.metadata, text_table(whole, METADATA))
    same_text(stim.segmentations.metadata, text_table(whole, SEGMENTATION_TABLE))
    assert not verify_store(new, mirror, deep=True, progress=False).problems


def test_trial_whose_label_is_not_in_the_metadata(mirror, new):
    stranger = "shared_12rep_LAION_cluster_77_i0.jpg"
    shown = [*SHOWN[:2], stranger, *SHOWN[3:]]
    write_trials(mirror, shown)
    assert command(mirror, new) == 0
    sub = load_subject("01", new)
    assert sub.metadata["stim_idx"].tolist()[2] == -1
    for ask in (
        lambda: sub.images[2],
        lambda: sub.images.get(2),
        lambda: sub.segmentations.get(2, "house"),
        lambda: list(sub.images.all()),
        lambda: sub.images.array().compute(),
    ):
        with pytest.raises(KeyError, match=re.escape(stranger)):
            ask()
    assert 2 not in sub.images
    assert sub.captions.list(2) == []
    assert sub.segmentations.nouns(2) == []
    found = sub.embeddings.all("CLIP")
    assert found["image_name"].values.tolist() == shown
    stim = load_stimuli(new)
    others = [n for n in range(len(shown)) if n != 2]
    assert np.isnan(found.values[2]).all()
    expected = stim.embeddings.get("CLIP", [shown[n] for n in others]).values
    np.testing.assert_array_equal(found.values[others], expected)
    for n in others:
        assert sub.images[n] == picture(shown[n])
        assert sub.captions.list(n) == stim.captions.list(shown[n])
    assert sub.get_betas(mask_source="rsquare").shape == (6, 8)
