"""SIGKILL at any moment: what is listed stays readable, and the same command makes it whole."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import psutil
import pytest

from laion_zarr import convert, load_stimuli, load_subject, verify
from laion_zarr.conversion.cli import main
from laion_zarr.conversion.synthetic import Size, write_dataset
from laion_zarr.errors import NotConvertedError, StimuliNotDownloadedError
from laion_zarr.store.objects import open_store
from laion_zarr.store.parts import StoredParts

# -- the driver: this file run as a script forks a converter for each request, imports done


def serve() -> None:
    """Convert in a fork for each line of stdin; print its process id, then its exit code."""
    for line in sys.stdin:
        if not (pid := os.fork()):
            _convert_and_die(**json.loads(line))
        with contextlib.suppress(OSError):  # whoever is first: the child does the same
            os.setpgid(pid, pid)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _convert_and_die(argv: list[str], root: str, log: str, at: int) -> None:
    os.setpgid(0, 0)
    with Path(os.devnull).open() as null, Path(log).open("w") as out:
        for number, file in enumerate((null, out, out)):
            os.dup2(file.fileno(), number)
    with Path(log).with_suffix(".changes").open("w") as changes:
        sys.addaudithook(Changes(root, changes, at))
        os._exit(main(argv))


class Changes:
    """Audit hook: notes each change to the files below a folder, and dies just before one.

    A file that a rename is about to put in its place is cut in half first: so it would be, had
    the process died while it wrote.
    """

    KINDS = ("os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir")

    def __init__(self, root: str, log: Any, at: int) -> None:
        self._root, self._log, self._at = root, log, at
        self._done = 0

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in self.KINDS:
            return
        path = Path(os.fsdecode(args[1] if event in ("os.rename", "os.link") else args[0]))
        # What rmtree removes has no folder in its name.
        if path.is_absolute() and not self._matters(event, path):
            return
        if self._done == self._at:
            source = Path(os.fsdecode(args[0]))
            if event == "os.rename" and source.stat().st_nlink == 1:  # else a link, made at once
                os.truncate(source, source.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        self._done += 1
        self._log.write(f"{event} {path}\n")
        self._log.flush()

    def _matters(self, event: str, path: Path) -> bool:
        if not path.is_relative_to(self._root):
            return False
        if event == "os.mkdir":
            return not path.exists()
        if event == "os.rmdir":
            return path.is_dir() and not any(path.iterdir())
        return event != "os.remove" or path.exists()


class Driver:
    """The test's end of `serve`."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, argv: list[str], root: Path, at: int = -1) -> int:
        """Start a converter, which dies just before change number `at` to `root`; its id."""
        assert self._process.stdin
        request = {"argv": argv, "root": str(root), "log": str(self.log), "at": at}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._answer())

    def wait(self) -> int:
        """Exit code of the converter, negative if a signal ended it."""
        return int(self._answer())

    def run(self, argv: list[str], root: Path, at: int = -1) -> int:
        """Both."""
        self.start(argv, root, at)
        return self.wait()

    def changes(self) -> list[str]:
        """What the last converter changed, in order."""
        return self.log.with_suffix(".changes").read_text().splitlines()

    def _answer(self) -> str:
        assert self._process.stdout
        answer = self._process.stdout.readline()
        assert answer, "the driver died"
        return answer

    def close(self) -> None:
        """End the driver."""
        with self._process:
            assert self._process.stdin
            self._process.stdin.close()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    driver = Driver(tmp_path_factory.mktemp("driver"))
    yield driver
    driver.close()


# -- two versions of one mirror, and what each says

KEPT_ROI = "FFA1"
STEPS = Size((11, 13, 12), 17.0, (5, 6), 1, (5, 6, 5), 40.0, (2, 2))
MOMENTS = Size((40, 48, 38), 5.0, (60, 66), 12, (5, 6, 5), 40.0, (2, 2))


def write_mirror(root: Path, size: Size) -> Path:
    """A mirror with one of each kind, so that few changes make a store."""
    write_dataset(root, size)
    for path in root.rglob("derivatives/**/*"):
        name = path.name
        superfluous = name.endswith((".json", ".label")) or any(
            word in name
            for word in (
                "hemi-R",
                "T1w_T1w",
                "T1w_desc-b",
                "T2w",
                "HRF",
                "Fracridge",
                "Noiseceiling4",
            )
        )
        roi = "/rois/" in str(path) and f"label-{KEPT_ROI}_" not in name
        if path.is_file() and (superfluous or roi):
            path.unlink()
    (path,) = root.glob("stimuli/*images_metadata.csv")
    pd.read_csv(path)[["image_name", "n_reps"]].to_csv(path, index=False)
    return root


def write_second_version(first: Path, root: Path) -> Path:
    """The same mirror with other betas, maps and trials, and its stimuli in another order."""
    shutil.copytree(first, root)
    for pattern in ("*SingletrialBetas_statmap.nii.gz", "*desc-R2_statmap.nii.gz"):
        for path in root.rglob(pattern):
            image = nib.load(path)
            values = 1 - np.asarray(image.dataobj)
            nib.save(nib.Nifti1Image(values.astype("f4"), image.affine), path)
    for path in root.rglob("*trials.tsv"):
        table = pd.read_csv(path, sep="\t")
        table["label"] = table["label"].to_numpy()[::-1]
        table.to_csv(path, sep="\t", index=False)
    (path,) = root.glob("stimuli/*images_metadata.csv")
    pd.read_csv(path).iloc[::-1].to_csv(path, index=False)
    change_stimuli(root / "stimuli")
    return root


def change_stimuli(folder: Path) -> None:
    """Other pictures, embeddings, masks and captions of the same images."""
    (path,) = folder.glob("*stimuli.h5")
    with h5py.File(path, "r+") as file:
        pictures = list(file["images"][:])
        for row, data in enumerate(pictures[1:] + pictures[:1]):
            file["images"][row] = data
    for path in folder.glob("*embeddings.h5"):
        with h5py.File(path, "r+") as file:
            file["embedding"][:] = -file["embedding"][:]
    (path,) = folder.glob("*segmentations.h5")
    with h5py.File(path, "r+") as file:
        file["masks"][:] = 1 - file["masks"][:]
    (path,) = folder.glob("*captions.csv")
    table = pd.read_csv(path, keep_default_na=False)
    table.assign(caption=table["caption"] + "!").to_csv(path, index=False)


def tree(root: Path) -> dict[str, bytes | None]:
    """Everything below a folder; None for a folder."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


def answers(store: Path) -> dict[str, tuple[Any, ...]]:
    """All that a reader is told of each session, through every part that takes part in it."""
    sub = load_subject("01", store)
    found = {}
    for ses in sub.get_sessions():
        data = sub.sel(session=ses)
        shown = data["image_name"].values.tolist()
        assert shown == sub.get_trial_info(ses)["label"].tolist(), "trials of another version"
        betas = data["betas"].values
        found[ses] = (data["voxel"].values.tobytes(), *shown, betas.tobytes())
        assert np.isfinite(betas).any(axis=0).mean() > 0.5
    return found


def stimulus_answers(store: Path) -> dict[str, Any]:
    """All that a reader is told of each part of the stimuli, by name; what is lacking is absent."""
    found: dict[str, Any] = {}

    def take(part: str, read: Any) -> None:
        with contextlib.suppress(StimuliNotDownloadedError):
            found[part] = read()

    def of_models() -> None:
        for model in stim.embeddings.models:
            values = stim.embeddings[model].sortby("image")
            found[model] = (values["image"].values.tolist(), values.values.tobytes())

    try:
        stim = load_stimuli(store)
    except StimuliNotDownloadedError:
        return found
    take("metadata", lambda: stim.metadata.to_csv())
    take("images", lambda: sorted(stim.images))
    take("embeddings", of_models)
    take("captions", lambda: stim.captions.metadata.to_csv())
    take("masks", lambda: stim.segmentations.masks.values.tobytes())
    return found


def prove(store: Path) -> None:
    """Read every object that a manifest lists."""
    opened = open_store(store)
    for manifest in store.glob("s*/manifest.json"):
        stored = StoredParts(opened, manifest.parent.name)
        for part in stored.parts.values():
            stored.read(part, part.files)


@dataclass
class World:
    """Mirrors, their undisturbed stores, and what these answer.

    Attributes
    ----------
    folder : Path
        Holds all of it.
    mirrors : list of Path
        Two versions.
    """

    folder: Path
    mirrors: list[Path]
    _stores: dict[str, Path] = field(default_factory=dict)
    _answers: dict[str, dict[str, tuple[Any, ...]]] = field(default_factory=dict)
    _stimuli: dict[int, dict[str, Any]] = field(default_factory=dict)

    def store(self, version: int, mask: str = "both", sessions: str | None = None) -> Path:
        """An undisturbed store; nothing may change it."""
        name = f"{version} {mask} {sessions}.zarr"
        if name not in self._stores:
            path = self.folder / name
            options = {"mask": mask, "sessions": sessions, "n_workers": 1, "progress": False}
            convert(self.mirrors[version], path, **options)
            self._stores[name] = path
        return self._stores[name]

    def answers(self, version: int, *how: str | None) -> dict[str, tuple[Any, ...]]:
        """What such a store says."""
        name = str(path := self.store(version, *how))
        if name not in self._answers:
            verify(path, source=self.mirrors[version], deep=True, progress=False)
            self._answers[name] = answers(path)
        return self._answers[name]

    def stimuli(self, version: int) -> dict[str, Any]:
        """What it says of the stimuli."""
        if version not in self._stimuli:
            self._stimuli[version] = stimulus_answers(self.store(version))
        return self._stimuli[version]


def make_world(folder: Path, size: Size) -> World:
    first = write_mirror(folder / "first", size)
    return World(folder, [first, write_second_version(first, folder / "second")])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Few changes make its store."""
    return make_world(tmp_path_factory.mktemp("small"), STEPS)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Its workers are at work for a while."""
    return make_world(tmp_path_factory.mktemp("large"), MOMENTS)


@dataclass(frozen=True)
class Scenario:
    """What is killed.

    Attributes
    ----------
    before : tuple or None
        The store at the start, as `World.store` makes it; None for none.
    options : tuple of str
        Of the command.
    mask : str
        Voxels at the end.
    together : bool
        Whether all sessions must be of one version.
    """

    before: tuple[Any, ...] | None
    options: tuple[str, ...] = ()
    mask: str = "both"
    together: bool = False

    def begin(self, world: World, target: Path) -> list[str]:
        """Lay out the store; the command."""
        shutil.rmtree(target, ignore_errors=True)
        if self.before is not None:
            shutil.copytree(world.store(*self.before), target)
        where = ("--source", str(world.mirrors[1]), "--store", str(target))
        return ["convert", "--quiet", *where, *self.options]

    def check_readable(self, world: World, target: Path) -> None:
        """Old or new, never a mix, never less than there was."""
        prove(target)
        self._check_stimuli(world, target)
        try:
            found = answers(target)
        except NotConvertedError:
            assert self.before is None
            return
        old = {} if self.before is None else world.answers(*self.before)
        new = world.answers(1, self.mask)
        is_new = {ses: told == new[ses] for ses, told in found.items()}
        assert all(is_new[ses] or told == old[ses] for ses, told in found.items())
        assert not self.together or len(set(is_new.values())) == 1
        assert set(found) >= set(old)

    def _check_stimuli(self, world: World, target: Path) -> None:
        """Each part old or new: pictures of one version, under the names of that version."""
        try:
            found = stimulus_answers(target)
        except NotConvertedError:
            found = {}
        old = {} if self.before is None else world.stimuli(self.before[0])
        new = world.stimuli(1)
        for part, told in found.items():
            assert told in (old.get(part), new[part]), part
        assert set(found) >= set(old)

    def check_whole(self, world: World, target: Path) -> None:
        """As if nothing had happened."""
        assert tree(target) == tree(world.store(1, self.mask))


SCENARIOS = {
    "first": Scenario(None),
    "another session": Scenario((1, "both", "ses-01")),
    "overwrite": Scenario((0,), ("--overwrite",)),
    "other voxels": Scenario(
        (0,), ("--overwrite", "--mask", "anatomical"), "anatomical", together=True
    ),
}


def narrow(changes: list[str]) -> list[int]:
    """Before and after each change to a manifest, and the last two."""
    listed = [n for n, change in enumerate(changes) if change.endswith("manifest.json")]
    around = {n + step for n in listed for step in (0, 1)}
    return sorted((around | {len(changes) - 2, len(changes) - 1}) & set(range(len(changes))))


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_a_change(small, driver, tmp_path, rounds, tally, name):
    """Death between any two changes to the files, and in the middle of writing any of them."""
    scenario, target = SCENARIOS[name], tmp_path / "s.zarr"
    rng = np.random.default_rng(0)

    def begin() -> list[str]:
        return [*scenario.begin(small, target), "--n-workers", "1"]

    assert driver.run(begin(), target) == 0, driver.log.read_text()
    scenario.check_whole(small, target)
    changes = driver.changes()
    moments = set(range(len(changes)))
    if (few := rounds(3, len(changes))) < len(changes):
        moments = {*rng.choice(narrow(changes), few), *rng.choice(len(changes), few)}
    for at in sorted(map(int, moments)):
        argv = begin()
        assert driver.run(argv, target, at) == -signal.SIGKILL, driver.log.read_text()
        tally("kills at a change survived")
        scenario.check_readable(small, target)
        if rng.random() < 0.3:  # again, while it clears up
            died = driver.run(argv, target, int(rng.integers(len(changes)))) != 0
            tally("kills at a change survived", died)
            scenario.check_readable(small, target)
        assert driver.run(argv, target) == 0, driver.log.read_text()
        scenario.check_whole(small, target)


STIMULUS_PARTS = ("images", "embeddings/CLIP", "segmentations", "captions", "metadata")


@pytest.mark.parametrize("name", ["first", "overwrite"])
def test_killed_while_the_stimuli_are_written(small, driver, tmp_path, rounds, tally, name):
    """Death just before a change to each part of the stimuli, in its place or beside it."""
    scenario, target = SCENARIOS[name], tmp_path / "s.zarr"
    rng = np.random.default_rng(1)

    def begin() -> list[str]:
        return [*scenario.begin(small, target), "--n-workers", "1"]

    assert driver.run(begin(), target) == 0, driver.log.read_text()
    changes = driver.changes()
    moments = []
    for part in STIMULUS_PARTS:
        here = [n for n, change in enumerate(changes) if f"/stimuli/{part}/" in change]
        assert here
        large = [n for n in here if re.search(r"/(data|embedding|masks)/c/", changes[n])]
        few = rounds(2 if part == "images" else 1, len(here))
        moments += rng.choice(here, few, replace=False).tolist()
        if part == "images":  # in the middle of the pictures' bytes
            moments += large[:1]
    for at in moments:
        argv = begin()
        assert driver.run(argv, target, at) == -signal.SIGKILL, driver.log.read_text()
        tally("kills amid the stimuli survived")
        scenario.check_readable(small, target)
        assert driver.run(argv, target) == 0, driver.log.read_text()
        scenario.check_whole(small, target)


def strike(pid: int, whom: str) -> None:
    """Kill a converter with its workers, or without, or one of them."""
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):  # it was done
        workers = psutil.Process(pid).children()
        if whom == "all":
            os.killpg(pid, signal.SIGKILL)
        elif whom == "parent" or not workers:
            os.kill(pid, signal.SIGKILL)
        else:
            workers[-1].kill()


@pytest.mark.parametrize("name", ["first", "overwrite", "other voxels"])
def test_killed_at_any_moment(large, driver, tmp_path, rounds, tally, name):
    """Two workers and their parent, by the clock; orphaned workers keep the store locked."""
    scenario, target = SCENARIOS[name], tmp_path / "s.zarr"
    rng = np.random.default_rng(0)
    lasts = 3.0  # seconds, until it is known
    for number in range(rounds(1, 12)):
        argv = [*scenario.begin(large, target), "--n-workers", "2"]
        for whom in np.roll(["all", "parent", "worker"], number)[: rounds(2, 3)]:
            pid = driver.start(argv, target)
            time.sleep(float(rng.uniform(0, lasts)))
            strike(pid, whom)
            tally("kills at a random moment survived", driver.wait() != 0)
            scenario.check_readable(large, target)
        started = time.monotonic()
        assert driver.run(argv, target) == 0, driver.log.read_text()
        lasts = time.monotonic() - started
        scenario.check_whole(large, target)


if __name__ == "__main__":
    serve()
