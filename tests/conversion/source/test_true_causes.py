"""What keeps a file from being read or written is named as what it is, with the file."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_mirror import (
    METADATA,
    anatomy_file,
    betas_file,
    check,
    map_file,
    mask_file,
    report_of,
    roi_file,
    surface_file,
    trials_file,
)

from laion_zarr import load_subject
from laion_zarr.conversion.source import problems
from laion_zarr.conversion.source.files import open_source
from laion_zarr.conversion.source.hdf5 import open_hdf5
from laion_zarr.conversion.verification.store import run_verification
from laion_zarr.conversion.write import catalogue
from laion_zarr.errors import DataNotDownloadedError, SourceError, StoreError
from laion_zarr.store.disk import DiskStore

FILES = {
    "betas": (betas_file(), "sub-01 ses-02"),
    "trials": (trials_file(), "sub-01 ses-02"),
    "map": (map_file("r2"), "sub-01 maps/ses-02 r2"),
    "mask": (mask_file("anatomical"), "sub-01"),
    "ROI": (roi_file("EBA"), "sub-01 roi:EBA"),
    "anatomy": (anatomy_file("t1w"), "sub-01 anatomy t1w"),
    "surface": (surface_file("EBA", "L", "func.gii"), "sub-01 EBA hemi-L func.gii"),
    "metadata": (METADATA, "stimuli metadata"),
}
CAUSES = {
    errno.EIO: "Input/output error",
    errno.ESTALE: "mount it again",
    errno.ENOTCONN: "mount it again",
    errno.EACCES: "Mend its permissions",
    errno.EMFILE: "ulimit -n",
    errno.EBUSY: "has it in use",
    errno.ETIMEDOUT: "mount it again",
}
BLAMES = ("Delete", "damaged", "cut off", "download it again")


def said(error, path, cause):
    assert isinstance(error, SourceError | StoreError)
    assert str(path) in str(error)
    assert cause in str(error)
    for blame in BLAMES:
        assert blame not in str(error)


@pytest.mark.parametrize("which", FILES)
def test_a_disk_that_fails(mirror, new, which):
    """A link to what answers EIO, as in a real disk: only what needs the file fails."""
    path, name = FILES[which]
    (mirror / path).unlink()
    (mirror / path).symlink_to("/proc/self/mem")
    report = report_of(mirror, new)
    assert list(report.failed) == ([name] if which != "surface" else list(report.failed))
    for error in report.failed.values():
        said(error, mirror / path, "Input/output error")


class Failing(io.RawIOBase):
    """A file that can be opened, and fails after some bytes."""

    def __init__(self, file, number, after):
        super().__init__()
        self._file, self._number, self._left = file, number, after

    def readable(self):
        return True

    def seek(self, offset, whence=0):
        return self._file.seek(offset, whence)

    def tell(self):
        return self._file.tell()

    def close(self):
        self._file.close()
        super().close()

    def readall(self):
        raise OSError(self._number, os.strerror(self._number))

    def readinto(self, buffer):
        if self._left <= 0:
            raise OSError(self._number, os.strerror(self._number))
        count = self._file.readinto(memoryview(buffer)[: self._left])
        self._left -= count
        return count


@pytest.mark.parametrize("number", CAUSES)
def test_any_cause_in_the_middle_of_a_file(whole, monkeypatch, number):
    path = whole / betas_file()
    opened = Path.open

    def failing(self, *arguments, **more):
        file = opened(self, *arguments, **more)
        return Failing(file, number, 100) if self == path else file

    source = open_source(whole)
    monkeypatch.setattr(problems.Path, "open", failing)
    with pytest.raises(SourceError) as caught, source.unpacked(betas_file()) as file:
        file.read()
    said(caught.value, path, CAUSES[number])


@pytest.mark.parametrize("number", CAUSES)
def test_any_cause_at_opening(whole, monkeypatch, number):
    def failing(self, *arguments, **more):
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(problems.Path, "open", failing)
    for ask in (open_source(whole).read, open_source(whole).identity):
        with pytest.raises(SourceError) as caught:
            ask(trials_file())
        said(caught.value, whole / trials_file(), CAUSES[number])


def test_an_error_elsewhere_is_not_blamed_on_the_open_file(whole):
    with pytest.raises(OSError, match="No space"), open_source(whole).unpacked(betas_file()):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), open_source(whole).open(betas_file()):
        raise FileNotFoundError(errno.ENOENT, "another one", "elsewhere")


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EACCES, errno.EIO])
def test_a_mirror_out_of_reach(whole, monkeypatch, number):
    """It is not said to be no folder."""

    def failing(self, **more):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "stat", failing)
    with pytest.raises(SourceError) as caught:
        open_source(whole).listing()
    said(caught.value, whole, CAUSES[number])


def test_a_mirror_that_is_no_folder(whole):
    for place in (whole / METADATA, whole / "nowhere", whole / METADATA / "below"):
        with pytest.raises(DataNotDownloadedError, match="is not a folder"):
            open_source(place).listing()


def test_a_dangling_link_is_not_to_be_deleted(mirror):
    (mirror / METADATA).unlink()
    (mirror / METADATA).symlink_to("/media/disk/metadata.csv")
    with pytest.raises(
        SourceError, match=r"to /media/disk/metadata\.csv\. Mount the disk"
    ) as caught:
        open_source(mirror).read(METADATA)
    assert "Delete" not in str(caught.value)


# -- HDF5

HOLD = """
import h5py, sys
file = h5py.File(sys.argv[1], "r+")
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["masks"] = np.ones((3, 4, 5), np.uint8)
    return tmp_path


def test_hdf5_open_in_another_program(hdf5):
    """For writing: it may be half written."""
    arguments = [sys.executable, "-c", HOLD, str(hdf5 / "a.h5")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline()
            with pytest.raises(SourceError) as caught, open_hdf5(open_source(hdf5), "a.h5"):
                pass
        finally:
            holder.communicate()
    said(caught.value, hdf5 / "a.h5", "Another program has it in use")
    with open_hdf5(open_source(hdf5), "a.h5") as file:
        assert file.masks().shape == (3, 4, 5)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_hdf5_where_there_are_no_locks(hdf5, monkeypatch, number):
    opened = h5py.File

    def without_locks(*arguments, locking=None, **more):
        if locking is None:
            raise OSError(number, f"unable to lock file, errno = {number}")
        return opened(*arguments, locking=locking, **more)

    monkeypatch.setattr(h5py, "File", without_locks)
    with open_hdf5(open_source(hdf5), "a.h5") as file:
        assert file.masks()[...].sum() == 60


def test_hdf5_on_a_disk_that_fails(tmp_path):
    (tmp_path / "a.h5").symlink_to("/proc/self/mem")
    with pytest.raises(SourceError) as caught, open_hdf5(open_source(tmp_path), "a.h5"):
        pass
    said(caught.value, tmp_path / "a.h5", "Input/output error")


def test_hdf5_whose_rows_cannot_be_read(hdf5):
    """h5py has the cause in the text of its error alone."""

    class Rows:
        def __len__(self):
            return 3

        def __getitem__(self, rows):
            raise OSError("Can't read data (file read failed: errno = 116, error message = 'x')")

    with open_hdf5(open_source(hdf5), "a.h5") as file, pytest.raises(SourceError) as caught:
        list(file.rows(Rows()))
    said(caught.value, hdf5 / "a.h5", "mount it again")


# -- the store


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.EBADF])
def test_a_store_where_there_are_no_locks(mirror, whole, new, monkeypatch, caplog, number):
    def no_locks(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert not report_of(mirror, new, parts="betas").failed
    assert caplog.text.count("without locks") == 1
    assert str(new) in caplog.text
    assert load_subject("01", new).get_sessions() == ["ses-01", "ses-02"]


def test_a_store_whose_lock_fails(mirror, new, monkeypatch):
    def failing(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", failing)
    with pytest.raises(StoreError) as caught:
        report_of(mirror, new)
    said(caught.value, new, "Input/output error")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_a_store_where_there_are_no_hard_links(mirror, whole, kept, monkeypatch, number):
    def no_links(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(catalogue.os, "link", no_links)
    assert not report_of(mirror, kept, overwrite=True).failed
    check(whole, kept)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_store_that_cannot_be_written(mirror, new, monkeypatch, number):
    words = {errno.ENOSPC: "Free space", errno.EDQUOT: "Free space", errno.EIO: "disk"}
    replaced = Path.replace

    def failing(self, target):
        if "betas" in str(target):
            raise OSError(number, os.strerror(number))
        return replaced(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    report = report_of(mirror, new, subjects="01", parts="betas")
    assert set(report.failed) == {"sub-01 ses-01", "sub-01 ses-02"}
    for error in report.failed.values():
        said(error, new / "sub-01", words.get(number, "read-only"))


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_a_store_that_cannot_be_read(whole_store, monkeypatch, number):
    """Not damaged: neither readers nor `verify` say to convert it again."""
    sub = load_subject("01", whole_store)
    opened = DiskStore._descriptor

    def failing(self, key):
        if "ses-01/betas/c" in key:
            raise OSError(number, os.strerror(number))
        return opened(self, key)

    monkeypatch.setattr(DiskStore, "_descriptor", failing)
    betas = sub.get_betas("ses-01")
    with pytest.raises(StoreError) as caught:
        betas.compute()
    said(caught.value, whole_store / "sub-01/ses-01/betas/c/0/0", CAUSES[number])
    problems = run_verification(whole_store, None, False, None, False).problems
    (problem,) = (problem for problem in problems if "sub-01/ses-01/betas/c/0/0" in problem)
    said(StoreError(problem), "betas/c/0/0", CAUSES[number])


def test_verification_of_a_source_on_a_disk_that_fails(mirror, kept):
    (mirror / roi_file("EBA")).unlink()
    (mirror / roi_file("EBA")).symlink_to("/proc/self/mem")
    problems = run_verification(kept, mirror, True, None, False).problems
    assert any(str(mirror / roi_file("EBA")) in problem for problem in problems)
