"""Subjects, sessions, parts and masks that are misspelled: refused before anything is written."""

from __future__ import annotations

import pytest
import xarray as xr
from small_mirror import command, wrong
from small_mirror import sub as sub

from laion_zarr import convert, load_subject
from laion_zarr.errors import SubjectNotFoundError

NOT_SUBJECTS = ["", "sub-", "sub_01", 0, True, 1.0, None, "ses-", "sub-01/..", b"sub-01"]


@pytest.mark.parametrize("given", NOT_SUBJECTS)
def test_malformed_subject(whole, whole_store, new, given):
    with pytest.raises(SubjectNotFoundError) as caught:
        load_subject(given, whole_store)
    for word in (repr(given), "'sub-01'", "sub-07"):
        assert word in str(caught.value)
    with pytest.raises(ValueError, match="no subject id"):
        xr.open_dataset(whole_store, engine="laion_zarr", group="" if given is None else given)
    if given is not None:
        with pytest.raises(SubjectNotFoundError):
            convert(whole, new, subjects=given, progress=False)
        with pytest.raises(SubjectNotFoundError):
            convert(whole, new, subjects=["sub-01", given], progress=False)
        assert not new.exists()


@pytest.mark.parametrize("given", ["", "ses-", "ses_01", "sub-01", True, 0, 1.5, "ses-01/.."])
def test_malformed_session(whole, sub, new, given):
    for ask in (
        sub.get_betas,
        sub.get_trial_info,
        lambda ses: sub.sel(session=ses),
        lambda ses: sub.get_noise_ceiling(session=ses),
        lambda ses: sub.get_betas(["ses-01", ses]),
        lambda ses: convert(whole, new, sessions=ses, progress=False),
    ):
        with pytest.raises(ValueError, match="no session id") as caught:
            ask(given)
        assert repr(given) in str(caught.value)
        assert "'ses-01'" in str(caught.value)
    assert not new.exists()


@pytest.mark.parametrize("given", ["", "sub-", "sub_01"])
def test_malformed_subject_on_the_command_line(whole, new, capsys, given):
    assert command(whole, new, "--subject", given) == 1
    assert "sub-01" in capsys.readouterr().err
    assert not new.exists()


def test_wrong_parts_and_masks(whole, new):
    wrong(lambda: convert(whole, new, parts="pictures", progress=False), "pictures", "surfaces")
    wrong(lambda: convert(whole, new, mask="brain", progress=False), "anatomical", "both")
    for options in (["--parts", "pictures"], ["--mask", "brain"]):
        with pytest.raises(SystemExit) as caught:
            command(whole, new, *options)
        assert caught.value.code == 2
    assert not new.exists()
