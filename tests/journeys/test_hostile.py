"""Full disks, changing sources, readers and converters at once, odd surroundings."""

from __future__ import annotations

import errno
import fcntl
import io
import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from changed_events import follow_trials
from changed_stimuli import change_stimuli
from converting import alone
from trees import tree
from zarr.storage import LocalStore

from laion_zarr import load_stimuli, load_subject
from laion_zarr.conversion.budget import WorkPlan
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.source.files import Source
from laion_zarr.conversion.write import catalogue, root
from laion_zarr.errors import (
    LaionZarrError,
    NotConvertedError,
    StimuliNotDownloadedError,
    StoreError,
)

pytestmark = pytest.mark.minutes

COMMAND = (sys.executable, "-P", "-m", "laion_zarr.conversion.cli")


@pytest.fixture(scope="module")
def first(bids_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of one subject with one region; nothing may change it."""
    root = Path(shutil.copytree(bids_root, tmp_path_factory.mktemp("first") / "mirror"))
    for path in [*root.rglob("sub-03"), *root.rglob("rois/sub-01/[!f]*")]:
        shutil.rmtree(path)
    for path in root.rglob("rois/sub-01/face/*"):
        if "FFA1" not in path.name:
            path.unlink()
    return root


@pytest.fixture(scope="module")
def second(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`first` with other betas, maps, trials and stimuli; no test may change it."""
    root = Path(shutil.copytree(first, tmp_path_factory.mktemp("second") / "mirror"))
    for path in root.rglob("*_statmap.nii.gz"):
        if "R2mean" not in path.name:  # the same voxels
            image = nib.load(path)
            values = 1 - np.asarray(image.dataobj)
            nib.save(nib.Nifti1Image(values.astype("f4"), image.affine), path)
    for path in root.rglob("*trials.tsv"):
        table = pd.read_csv(path, sep="\t")
        table["label"] = table["label"].to_numpy()[::-1]
        table.to_csv(path, sep="\t", index=False)
    follow_trials(root)
    (path,) = root.glob("stimuli/*images_metadata.csv")
    pd.read_csv(path).iloc[::-1].to_csv(path, index=False)
    change_stimuli(root / "stimuli")
    (path,) = root.glob("stimuli/*segmentations_metadata.csv")
    pd.read_csv(path).iloc[::-1].to_csv(path, index=False)
    return root


@pytest.fixture(scope="module")
def first_store(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The conversion of `first`; nothing may change it."""
    path = tmp_path_factory.mktemp("first-store") / "s.zarr"
    alone(first, path)
    return path


@pytest.fixture(scope="module")
def second_store(second: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The conversion of `second`; nothing may change it."""
    path = tmp_path_factory.mktemp("second-store") / "s.zarr"
    alone(second, path)
    return path


def of_session(sub: Any, session: str) -> tuple[Any, ...]:
    """Names and betas of a session's trials, as a reader gets them."""
    data = sub.sel(session=session)
    names = data["image_name"].values.tolist()
    assert names == sub.get_trial_info(session)["label"].tolist()
    return (*names, data["betas"].values.tobytes())


def of_map(sub: Any, session: str) -> bytes:
    return sub.get_noise_ceiling(session=session).values.tobytes()


def of_stimuli(sub: Any) -> tuple[str, ...]:
    """The stimulus table, whose rows are those that the trials mean."""
    names = sub.get_stimulus_metadata()["image_name"].to_numpy()
    rows = sub.dataset["stim_idx"].values
    shown = sub.metadata["image_name"].to_numpy()
    assert (names[rows[rows >= 0]] == shown[rows >= 0]).all()
    return tuple(names)


def of_pictures(stim: Any) -> list[tuple[str, bytes]]:
    """Each picture under its name."""
    pixels = stim.images.array()
    found = dict(stim.images)
    assert pixels["image"].values.tolist() == list(found)
    decoded = pixels.values
    for name, shown in zip(found, decoded, strict=True):
        assert np.array_equal(np.asarray(stim.images.get(name)), shown)
    return sorted(found.items())


def of_embeddings(stim: Any) -> list[tuple[str, bytes]]:
    values = stim.embeddings["CLIP"].load()
    names = values["image"].values.tolist()
    return sorted((name, row.tobytes()) for name, row in zip(names, values.values, strict=True))


def of_masks(stim: Any) -> list[tuple[Any, ...]]:
    """Each mask under what the table says it is."""
    seg = stim.segmentations
    rows = seg.metadata.sort_values("mask_row").itertuples()
    masks = seg.masks.values
    return [
        (row.image_name, row.noun, row.instance_id, masks[row.mask_row].tobytes()) for row in rows
    ]


def of_captions(stim: Any) -> list[tuple[str, list[str]]]:
    return sorted((name, stim.captions.list(name)) for name in stim.captions.images())


OF_STIMULI = (of_pictures, of_embeddings, of_masks, of_captions)


# -- a full disk


class FullDisk:
    """Writing fails once so many bytes are written; until there is room again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room, self.used = np.inf, 0
        store_set, link, copyfile = LocalStore.set, os.link, shutil.copyfile

        async def full_set(store: LocalStore, key: str, value: Any) -> None:
            self._take(store.root / key, len(value))
            await store_set(store, key, value)

        def full_link(source: Path, target: Path) -> None:
            self._take(target, 1)
            link(source, target)

        def full_copy(source: Path, target: Path, **options: Any) -> None:
            self._take(target, Path(source).stat().st_size)
            copyfile(source, target, **options)

        monkeypatch.setattr(LocalStore, "set", full_set)
        monkeypatch.setattr(catalogue.os, "link", full_link)
        monkeypatch.setattr(catalogue.shutil, "copyfile", full_copy)

    def _take(self, path: Path, size: int) -> None:
        self.used += size
        if self.used > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@pytest.mark.parametrize("overwrite", [False, True])
def test_disk_full_at_any_moment(
    first, second, first_store, second_store, tmp_path, monkeypatch, rounds, tally, overwrite
):
    """An error that says so; what was stored is readable; with room again, the same command."""
    target = tmp_path / "s.zarr"
    disk = FullDisk(monkeypatch)
    old = [of_session(load_subject("01", first_store), s) for s in ("ses-01", "ses-02")]
    new = [of_session(load_subject("01", second_store), s) for s in ("ses-01", "ses-02")]

    def run(room: float) -> None:
        disk.room, disk.used = room, 0
        alone(second, target, overwrite=overwrite)

    def begin() -> None:
        disk.room = np.inf
        shutil.rmtree(target, ignore_errors=True)
        if overwrite:
            shutil.copytree(first_store, target)

    begin()
    run(np.inf)
    needed = disk.used
    assert tree(target) == tree(second_store)
    for room in np.random.default_rng(0).integers(needed, size=rounds(4, 150)):
        begin()
        with pytest.raises(LaionZarrError, match=r"No space left on device\. Free space") as caught:
            run(room)
        assert str(target) in str(caught.value)
        assert "run the same command" in str(caught.value)
        for n, session in enumerate(("ses-01", "ses-02")):
            try:
                assert of_session(load_subject("01", target), session) in (old[n], new[n])
            except NotConvertedError:
                assert not overwrite
        for read in OF_STIMULI:
            try:
                told = read(load_stimuli(target))
            except StimuliNotDownloadedError:
                assert not overwrite
            else:
                assert told in [read(load_stimuli(store)) for store in (first_store, second_store)]
        run(np.inf)
        assert tree(target) == tree(second_store)
        tally("full disks survived")


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[], None]]:
    """A file system of so many bytes; yields what makes it large."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield (
            lambda: (
                subprocess.run(["mount", "-o", "remount,size=1g", str(folder)], check=True) and None
            )
        )
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(("n_workers", "scratch"), [(1, False), (1, True), (2, True)])
def test_really_full_disk(
    first, first_store, tmp_path, monkeypatch, rounds, tally, n_workers, scratch
):
    """A file system that is full: the kernel's errors, also in workers and with scratch files."""
    monkeypatch.setattr(root, "_SPARE", -(1 << 40))  # or it is said before it is tried
    if scratch:
        monkeypatch.setattr(WorkPlan, "slabs_kept", lambda *_: 0)
    files = [path for path in first_store.rglob("*") if path.is_file()]
    blocks = sum(-(-path.stat().st_size // 4096) for path in files)
    rng = np.random.default_rng(n_workers)
    for share in rng.uniform(0.2, 0.9, size=rounds(1, 12)):
        with small_disk(tmp_path / "disk", int(blocks * share) * 4096) as enlarge:
            target = tmp_path / "disk" / "s.zarr"
            with pytest.raises(LaionZarrError, match="No space left on device"):
                alone(first, target, n_workers=n_workers)
            enlarge()
            alone(first, target, n_workers=n_workers)
            assert tree(target) == tree(first_store)
            tally("full disks survived")


def test_scratch_file_on_a_full_disk(first, first_store, tmp_path, monkeypatch):
    """An error that says so; no signal ends the process, as for a mapped file."""
    monkeypatch.setattr(WorkPlan, "slabs_kept", lambda *_: 0)

    class Full(io.BytesIO):
        def write(self, data) -> int:
            if self.tell() + memoryview(data).nbytes > 10_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    with monkeypatch.context() as full:
        full.setattr("tempfile.TemporaryFile", lambda dir: Full())
        with pytest.raises(LaionZarrError, match=r"scratch file.*: No space left.*--memory"):
            alone(first, tmp_path / "s.zarr")
    alone(first, tmp_path / "s.zarr")
    assert tree(tmp_path / "s.zarr") == tree(first_store)


# -- a place that cannot be written


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may write below a folder: for root by a mount, else by permissions."""
    if os.geteuid():
        paths = [folder, *folder.rglob("*")]
        modes = {path: path.stat().st_mode for path in paths}
        for path in paths:
            path.chmod(modes[path] & ~0o222)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        return
    bind = ["mount", "--bind", str(folder), str(folder)]
    if sys.platform != "linux" or subprocess.run(bind, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_read_only_store_is_read_and_not_written(first, second, first_store, copy_of):
    target = copy_of(first_store)
    expected = of_session(load_subject("01", first_store), "ses-01")
    with read_only(target):
        for place in (target, LocalStore(target, read_only=True), LocalStore(target)):
            sub = load_subject("01", place)
            assert of_session(sub, "ses-01") == expected
            assert of_stimuli(sub)
        for source in (first, second):
            with pytest.raises(
                LaionZarrError,
                match=r"cannot be written: .*(mend the permissions|a place that can be written)",
            ):
                alone(source, target)
        with pytest.raises(StoreError, match=r"cannot be (written|created)"):
            alone(first, target / "new.zarr")
    assert tree(target) == tree(first_store)


@pytest.mark.parametrize("overwrite", [False, True])
def test_store_opened_read_only_is_not_written(second, first_store, copy_of, overwrite):
    target = copy_of(first_store)
    with pytest.raises(LaionZarrError, match=r"cannot be written: .*read-only"):
        alone(second, LocalStore(target, read_only=True), overwrite=overwrite)
    assert tree(target) == tree(first_store)


@pytest.mark.parametrize("number", [1, 2])
def test_forbidden_to_write_or_remove(first, second, first_store, second_store, copy_of, number):
    """A folder of another user below the store: said by name; mended, the same command."""
    target = copy_of(first_store)
    denied = [PermissionError(errno.EACCES, os.strerror(errno.EACCES))]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("set", "delete_dir") if number == 1 else ("delete", "delete_dir"):

            async def forbidden(*_: Any) -> None:
                raise denied[0]

            patch.setattr(LocalStore, name, forbidden)
        if number == 2:  # something to remove
            (target / "sub-01" / "stray").write_bytes(b"x")
        with pytest.raises(
            LaionZarrError, match=rf"{target}/.*cannot be written: Permission denied"
        ):
            alone(second, target)
    alone(second, target)
    assert tree(target) == tree(second_store)


# -- sources that change while they are read


def grow(path: Path, _: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more\n")


def shrink(path: Path, _: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def flip(path: Path, _: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))


def replace(path: Path, other: Path) -> None:
    shutil.copyfile(other, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def vanish(path: Path, _: Path) -> None:
    path.unlink()


FILES = [
    "*ses-01*SingletrialBetas_statmap.nii.gz",
    "*ses-01*trials.tsv",
    "*ses-01*_desc-Noiseceiling_statmap.nii.gz",
    "*Noiseceiling12rep_statmap.nii.gz",
    "*1pt8_label-FFA1_mask.nii.gz",
    "*hemi-L*label-FFA1_mask.func.gii",
    "task-images_metadata.csv",
    "task-images_stimuli.h5",
    "*CLIP_embeddings.h5",
    "*segmentations.h5",
    "*segmentations_metadata.csv",
    "*captions.csv",
]


CHANGES = [grow, shrink, flip, replace, vanish]
TIMES = 5  # it is opened: looked at, read for the plan, read, looked at again


@pytest.mark.parametrize("pattern", FILES)
def test_source_that_changes_while_it_is_read(
    first, second, first_store, tmp_path, monkeypatch, rounds, tally, pattern
):
    """The old or new file is stored, or an error names it; the next run, with the old, is right."""
    mirror = tmp_path / "mirror"
    (path,) = first.rglob(pattern)
    name = str(path.relative_to(first))
    source_open = Source.open

    source_local = Source.local
    plan: dict[str, Any] = {}

    def strike(asked: str) -> None:
        if asked == name:
            plan["left"] -= 1
            if plan["left"] == 0:
                plan["change"](mirror / name, second / name)

    @contextmanager
    def open_and_change(source: Source, asked: str) -> Iterator[Any]:
        with source_open(source, asked) as file:
            strike(asked)
            yield file

    def local_and_change(source: Source, asked: str) -> Path | None:  # what HDF5 then opens
        strike(asked)
        return source_local(source, asked)

    monkeypatch.setattr(Source, "open", open_and_change)
    monkeypatch.setattr(Source, "local", local_and_change)
    cases = list(itertools.product(range(1, TIMES + 1), CHANGES))
    np.random.default_rng(len(pattern)).shuffle(cases)
    for number, (left, change) in enumerate(cases[: rounds(2, len(cases))]):
        shutil.rmtree(mirror, ignore_errors=True)
        shutil.copytree(first, mirror)
        target, now = tmp_path / f"{number}.zarr", tmp_path / f"{number} now.zarr"
        plan.update(left=left, change=change)
        error = failure(mirror, target)
        plan["left"] = 0
        if error:
            assert path.name in error
        elif tree(target) != tree(first_store):
            alone(mirror, now)
            assert tree(target) == tree(now)
        shutil.copyfile(path, mirror / name)
        alone(mirror, target)
        if "FFA1_mask.nii" in pattern:  # a region that comes later leaves the order of voxels
            alone(mirror, target, overwrite=True)
        assert tree(target) == tree(first_store)
        tally("sources changed while read")


def failure(source: Path, target: Path) -> str | None:
    """Convert; what the error says, if there is one."""
    try:
        alone(source, target)
    except LaionZarrError as error:
        return str(error)
    return None


# -- several at once


def command(source: Path, store: Path, *options: str) -> list[str]:
    where = ("--source", str(source), "--store", str(store))
    return [*COMMAND, "convert", "--quiet", *where, *options]


def test_second_converter_waits_for_the_first(first, first_store, tmp_path):
    """Two converters wait while a third holds the store; one converts, one has nothing to do."""
    target = tmp_path / "s.zarr"
    target.mkdir()
    holder = os.open(target, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command(first, target), **pipes) for _ in range(2)]
    for process in both:
        assert "Another converter is at work" in process.stderr.readline()
    assert tree(target) == {}
    os.close(holder)
    told = sorted(process.communicate()[0].partition("\n")[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    n = len(alone(first, tmp_path / "other.zarr").converted)
    assert told == sorted(
        [
            f"0 parts converted, {n} unchanged, 0 failed",
            f"{n} parts converted, 0 unchanged, 0 failed",
        ]
    )
    assert tree(target) == tree(first_store)


READS: list[tuple[Callable[..., Any], tuple[str, ...]]] = [
    (of_session, ("ses-01",)),
    (of_session, ("ses-02",)),
    (of_map, ("ses-01",)),
    (of_stimuli, ()),
]


def read_stimuli_while(
    busy: Callable[[], bool], target: Path, versions: list[Path], tally: Callable[..., None]
) -> None:
    """Parts of the stimuli beside a converter: rows, names and bytes must be of one version."""
    right = [[read(load_stimuli(store)) for store in versions] for read in OF_STIMULI]
    kept = load_stimuli(target)
    for number in itertools.count():
        if not busy():
            return
        which = number // 2 % len(OF_STIMULI)
        told, refused = None, ""
        try:
            told = OF_STIMULI[which](kept if number % 2 else load_stimuli(target))
        except StoreError as error:
            refused = str(error)
        if refused:
            assert "pen it again" in refused
            kept = load_stimuli(target)
            tally("readers told to open again")
        else:
            assert told in right[which], OF_STIMULI[which].__name__
            tally("right answers beside a converter")


def read_while(
    busy: Callable[[], bool], target: Path, versions: list[Path], tally: Callable[..., None]
) -> None:
    """Read with a subject that is kept open and with new ones; each answer is one version's."""
    right = [[read(load_subject("01", store), *args) for store in versions] for read, args in READS]
    kept = load_subject("01", target)
    for number in itertools.count():
        if not busy():
            return
        which = number // 2 % len(READS)
        read, args = READS[which]
        told = ""
        try:
            answer = read(kept if number % 2 else load_subject("01", target), *args)
        except (StoreError, NotConvertedError) as error:
            told = str(error)
        if not told:
            assert answer in right[which]
            tally("right answers beside a converter")
        elif args == ("ses-02",) and "no ses-02 in the store" in told:  # it is just being added
            kept = load_subject("01", target)
        else:
            assert "pen it again" in told
            kept = load_subject("01", target)
            tally("readers told to open again")


@pytest.mark.parametrize("reading", [read_while, read_stimuli_while])
def test_reader_beside_a_converter_of_the_same_process(
    first, second, first_store, second_store, copy_of, rounds, tally, reading
):
    target = copy_of(first_store)
    errors: list[BaseException] = []

    def overwrite() -> None:
        try:
            for number in range(rounds(4, 100)):
                alone((second, first)[number % 2], target, overwrite=number % 4 < 2)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=overwrite)
    thread.start()
    try:
        reading(thread.is_alive, target, [first_store, second_store], tally)
    finally:
        thread.join()
    assert not errors
    assert tree(target) == tree(first_store)


def test_reader_of_stimuli_beside_a_converter_of_another_process(
    first, second, first_store, second_store, copy_of, rounds, tally
):
    target = copy_of(first_store)
    for number in range(rounds(2, 40)):
        source = (second, first)[number % 2]
        with subprocess.Popen(command(source, target, "--overwrite"), stdout=subprocess.PIPE) as at:
            read_stimuli_while(
                lambda at=at: at.poll() is None, target, [first_store, second_store], tally
            )
        assert at.returncode == 0
    assert tree(target) == tree(first_store)


def test_reader_beside_a_converter_of_another_process(
    first, second, first_store, second_store, tmp_path, rounds, tally
):
    target = tmp_path / "s.zarr"
    for _ in range(rounds(1, 12)):
        shutil.rmtree(target, ignore_errors=True)
        alone(first, target, sessions="01")
        for source, options in ((first, ()), (second, ("--overwrite",))):
            with subprocess.Popen(command(source, target, *options), stdout=subprocess.PIPE) as at:
                read_while(
                    lambda at=at: at.poll() is None, target, [first_store, second_store], tally
                )
            assert at.returncode == 0
        assert tree(target) == tree(second_store)


# -- odd surroundings

SURROUNDINGS = {
    "clock": {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7"},
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONHASHSEED": "0"},
    "turkish": {"LC_ALL": "tr_TR.UTF-8", "TZ": "America/St_Johns"},
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_same_source_same_bytes(first, first_store, tmp_path, name):
    """Whatever the place, process, hash seed, locale, clock, umask and dates of the files."""
    mirror = Path(shutil.copytree(first, tmp_path / "a b" / "mïrror"))
    for path, date in zip(mirror.rglob("*"), itertools.cycle([0, 4102444800, -1]), strict=False):
        os.utime(path, (date, date))  # 1970, 2100, 1969
    target = tmp_path / "a b" / "störe.zarr"
    surroundings = {"env": os.environ | SURROUNDINGS[name], "cwd": tmp_path, "umask": 0o077}
    for options in (["--dry-run"], ["--n-workers", "2" if name == "clock" else "1"]):
        done = subprocess.run(
            command(mirror, target, *options), **surroundings, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert tree(target) == tree(first_store)
    assert target.stat().st_mode & 0o777 == 0o700
    info = [*COMMAND, "info", "--store", str(target)]
    done = subprocess.run(info, **surroundings, capture_output=True, check=True)
    assert b"sub-01: 2 sessions" in done.stdout


NAMES = [
    "with space",
    "ünï-日本",
    "a#b",
    "50%20",
    "what?",
    "[x]*{y}",
    'it\'s "it"',
    "-dash",
    "--quiet",
    "a;b&$HOME",
    "in~side",
    "a:b",
    "a\\b",
    ".hidden",
    "s3:x",
    "two::colons",
    "line\nbreak",
]


@pytest.mark.parametrize("name", NAMES)
def test_odd_paths(first, first_store, tmp_path, monkeypatch, capsys, name):
    """Odd names of source and store: in Python and on the command line, absolute and relative."""
    (tmp_path / "in").mkdir()
    mirror = Path(shutil.copytree(first, tmp_path / "in" / name))
    whole = tmp_path / "in" / "deep" / name / f"{name}.zarr"
    store = f"deep/{name}/{name}.zarr"
    monkeypatch.chdir(tmp_path / "in")
    options = [f"--source={name}", f"--store={store}"]
    assert main(["convert", "--quiet", *options]) == 0, capsys.readouterr().err
    assert not alone(mirror, whole).converted
    assert tree(whole) == tree(first_store)
    assert main(["verify", "--quiet", "--deep", *options]) == 0, capsys.readouterr().err
    assert main(["config", f"--data-dir={name}", f"--store={store}"]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["info"]) == 0
    assert "sub-01: 2 sessions" in capsys.readouterr().out
    expected = of_session(load_subject("01", first_store), "ses-01")
    for place in (None, whole, str(whole), f"in/{store}"):
        assert of_session(load_subject("01", place), "ses-01") == expected


def test_store_moved_linked_and_reached_by_other_ways(first_store, copy_of, tmp_path, monkeypatch):
    expected = of_session(load_subject("01", first_store), "ses-01")
    moved = copy_of(first_store).rename(tmp_path / "moved store.zarr")
    (tmp_path / "link").symlink_to(moved)
    (tmp_path / "to folder").symlink_to(tmp_path)
    monkeypatch.chdir(moved)
    for store in (
        *(".", "../link", "../link/", "../to folder/moved store.zarr"),
        *(f"file://{moved}", f"{moved}/", Path("../link"), "~/link"),
    ):
        assert of_session(load_subject("01", store), "ses-01") == expected


def test_conversion_through_a_link(
    first, first_store, second, second_store, copy_of, tmp_path, monkeypatch
):
    """The link stays a link, and a converter that comes by another way finds the store locked."""
    target = copy_of(first_store)
    link = tmp_path / "link.zarr"
    link.symlink_to(target)
    alone(second, link, overwrite=True)
    assert link.is_symlink()
    assert tree(target) == tree(second_store)
    with root.locked(LocalStore(link)):

        def warn(text: str, *_: object) -> None:
            raise InterruptedError(text)

        monkeypatch.setattr(root.log, "warning", warn)
        with pytest.raises(InterruptedError, match="waiting"), root.locked(LocalStore(target)):
            pass
