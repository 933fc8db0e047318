"""SIGKILL at any moment: stored parts stay readable, and the same command completes the store."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import psutil
import pytest
from changed_events import follow_trials
from changed_stimuli import change_stimuli
from killed_converter import Driver
from trees import tree

from laion_zarr import convert, load_stimuli, load_subject, verify
from laion_zarr.conversion.synthetic import Size, write_dataset
from laion_zarr.errors import NotConvertedError, StimuliNotDownloadedError
from laion_zarr.store.objects import open_store
from laion_zarr.store.parts import StoredParts

pytestmark = pytest.mark.minutes


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
    """The first mirror with other betas, maps and trials, and its stimuli in another order."""
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
    follow_trials(root)
    (path,) = root.glob("stimuli/*images_metadata.csv")
    pd.read_csv(path).iloc[::-1].to_csv(path, index=False)
    change_stimuli(root / "stimuli")
    return root


def answers(store: Path) -> dict[str, tuple[Any, ...]]:
    """Answers of a store for each session, from every part that a reader uses."""
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
    """Answers of a store for each part of the stimuli; parts that are not stored are left out."""
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
        """Answers of the store of these arguments."""
        name = str(path := self.store(version, *how))
        if name not in self._answers:
            verify(path, source=self.mirrors[version], deep=True, progress=False)
            self._answers[name] = answers(path)
        return self._answers[name]

    def stimuli(self, version: int) -> dict[str, Any]:
        """Answers of the stimuli of a store."""
        if version not in self._stimuli:
            self._stimuli[version] = stimulus_answers(self.store(version))
        return self._stimuli[version]


def make_world(folder: Path, size: Size) -> World:
    first = write_mirror(folder / "first", size)
    return World(folder, [first, write_second_version(first, folder / "second")])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Mirrors whose conversion makes few changes to the store."""
    return make_world(tmp_path_factory.mktemp("small"), STEPS)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Mirrors whose conversion takes workers a few seconds."""
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
        """The store is, byte for byte, that of an undisturbed conversion."""
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


@pytest.mark.minutes
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


@pytest.mark.minutes
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


def test_killed_while_time_series_are_written(driver, tmp_path, rounds, tally):
    """Death just before a change: what was there is as it was, and the same command goes on."""
    mirror = write_dataset(tmp_path / "mirror", replace(STEPS, runs=2, trials=(8,)))
    before, target, whole = (tmp_path / name for name in ("before", "s.zarr", "whole"))
    convert(mirror, before, parts=["betas", "anatomy"], progress=False)
    argv = ["convert", "--quiet", "--source", str(mirror), "--store", str(target)]
    argv += ["--parts", "bold", "--n-workers", "1"]

    def begin() -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(before, target)

    begin()
    assert driver.run(argv, target) == 0, driver.log.read_text()
    verify(target, mirror, deep=True, progress=False)
    changes = driver.changes()
    target.rename(whole)
    shape = load_subject("01", whole).get_bold(1).shape
    chosen = np.random.default_rng(0).choice(len(changes), rounds(5, len(changes)), replace=False)
    for at in sorted({*map(int, chosen), *narrow(changes)[:2]}):
        begin()
        assert driver.run(argv, target, at) == -signal.SIGKILL, driver.log.read_text()
        tally("kills amid time series survived")
        sub = load_subject("01", target)
        assert np.isfinite(sub.get_betas(roi="face").values).any()
        with contextlib.suppress(NotConvertedError):
            assert sub.get_bold(1).load().shape == shape
        assert driver.run(argv, target) == 0, driver.log.read_text()
        assert tree(target) == tree(whole)


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
