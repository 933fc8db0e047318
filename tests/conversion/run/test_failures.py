"""What a conversion reports: all damages at once, and subjects and parts that are missing."""

from __future__ import annotations

import pytest
from small_mirror import (
    HTML,
    METADATA,
    answer_betas,
    betas_file,
    ceiling_file,
    check,
    check_sessions,
    command,
    mask_file,
    names_and_mends,
    put,
    remove,
    roi_file,
    same,
    trials_file,
)

from laion_zarr import convert, load_subject
from laion_zarr.errors import SourceError, StimuliNotDownloadedError

# -- damaged files


def test_all_damages_are_said_at_once(mirror, whole, new, capsys):
    for path in (betas_file(), roi_file("EBA"), ceiling_file("Noiseceiling4rep")):
        put(mirror, path, HTML)
    with pytest.raises(SourceError) as caught:
        convert(mirror, new, progress=False)
    for path in (betas_file(), roi_file("EBA"), ceiling_file("Noiseceiling4rep")):
        assert str(mirror / path) in str(caught.value)
    check(whole, new, lacks={"ses-02", "EBA", "Noiseceiling4rep"})
    assert command(mirror, new) == 1
    assert capsys.readouterr().err.count("error:") == 3


# -- missing subjects, sessions and parts


def test_no_stimuli(mirror, whole, new):
    remove(mirror, "stimuli/*")
    convert(mirror, new, progress=False)
    subject = load_subject("01", new)
    assert not subject.has_stimuli()
    for name in ("stim_idx", "dataset"):
        assert name not in subject.dataset.coords
    labels = subject.metadata["label"]
    kinds = [name.partition("_")[0] for name in labels]
    assert subject.metadata["unique_or_shared"].tolist() == kinds
    shared = subject.get_betas("ses-01", stimuli="shared")
    rows = [kind == "shared" for kind in kinds[:6]]
    same(shared.values, answer_betas(whole, "sub-01", "ses-01", "anatomical")[rows])
    for ask in (subject.get_stimulus_metadata, subject.get_n_stimuli):
        with pytest.raises(StimuliNotDownloadedError) as caught:
            ask()
        names_and_mends(str(caught.value), METADATA, "laion-zarr convert")


ASKED = {
    "a subject": ([], ["--subject", "05"], "sub-05"),
    "a subject beside one that is there": ([], ["--subject", "01", "05"], "sub-05"),
    "a session": ([], ["--subject", "01", "--ses", "07"], "ses-07"),
    "a session beside one that is there": ([], ["--ses", "01", "07"], "ses-07"),
    "a session held out": ([], ["--subject", "01", "--ses", "31"], "ses-31"),
    "a session without betas": ([betas_file()], ["--subject", "01", "--ses", "02"], "betas"),
    "a session without table": ([trials_file()], ["--ses", "02"], "trial table"),
    "betas": ([betas_file(ses="ses-01"), betas_file()], ["--parts", "betas"], "sub-01"),
    "anatomy": ([mask_file("anatomical")], ["--parts", "anatomy"], "derivatives/anatomical"),
    "surfaces": ([], ["--parts", "surfaces"], "derivatives/rois"),
    "geometry": ([], ["--parts", "geometry"], "--include-freesurfer"),
    "metadata": ([], ["--parts", "metadata"], METADATA),
    "one of two parts": ([], ["--parts", "betas", "metadata"], METADATA),
}


@pytest.mark.parametrize("case", ASKED)
def test_asked_for_and_missing_is_a_failure(lean, whole, new, capsys, case):
    patterns, options, words = ASKED[case]
    remove(lean, *patterns)
    assert command(lean, new, *options) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    names_and_mends("\n".join(errors), words)
    if case.endswith("one that is there"):
        subject = load_subject("01", new)
        there = ["ses-01", "ses-02"][: 1 if "--ses" in options else 2]
        check_sessions(whole, subject, there, ["anatomical", "rsquare"])


def test_asked_for_session_of_one_of_two_subjects(whole, kept, capsys):
    assert command(whole, kept, "--ses", "02") == 1
    names_and_mends(capsys.readouterr().err, "error: sub-03 ses-02")
    check(whole, kept)


def test_asked_for_and_stored_needs_no_mirror(mirror, whole, kept):
    remove(mirror, betas_file(), trials_file())
    assert command(mirror, kept, "--subject", "01", "--ses", "02") == 0
    check(whole, kept)
