"""Opens stores of strangers, one after the other, in a process of its own; writes what came of it.

``python stranger_readers.py STORE OUTSIDE FIRST LAST``: a line of JSON for each case.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from strangers import Case, Forge

from laion_zarr import Captions, Segmentations, load_stimuli, load_subject, verify
from laion_zarr.analysis.streams.stream import compiled_loops
from laion_zarr.conversion.cli.info import describe
from laion_zarr.errors import LaionZarrError
from laion_zarr.splits import get_split_masks, list_splits

SUB = "sub-01"
SECONDS = 30  # longer is a hang
WATCHED = ("open", "os.", "shutil.", "socket.", "subprocess.")


class Watch:
    """Remembers whatever is opened, listed, changed or connected to outside of a store."""

    def __init__(self, store: Path, outside: Path) -> None:
        self._outside, self._store, self.seen = str(outside), str(store), []
        self.on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or not event.startswith(WATCHED):
            return
        if event.startswith(("socket.connect", "socket.getaddrinfo", "subprocess")):
            self.seen.append((event, str(arguments)[:200]))
        for argument in arguments[:2]:
            if isinstance(argument, bytes):
                argument = os.fsdecode(argument)
            if isinstance(argument, str) and (self._store in argument or "outside" in argument):
                real = os.path.realpath(argument)
                if event == "open" and arguments[2] & os.O_NOFOLLOW:  # fails if it is a link
                    folder, name = os.path.split(argument)
                    real = f"{os.path.realpath(folder)}/{name}"
                if real.startswith(self._outside) and event != "os.readlink":
                    self.seen.append((event, argument))


def stimuli(store: Path) -> Iterator[Any]:
    stim = load_stimuli(store)
    yield stim.metadata
    yield stim.dataset
    yield repr(stim), stim._repr_html_()
    yield stim.images.get(0)
    yield stim.embeddings.get("CLIP", [0, 1]).values
    segmentations = Segmentations(store)
    for image in segmentations.images()[:1]:
        for noun in segmentations.nouns(image, localized_only=False)[:1]:
            yield segmentations.get(image, noun).values
    yield Captions(store).list(0)


def splits(store: Path) -> Iterator[Any]:
    names = list_splits("shared", store=store)
    yield names
    if names:
        yield get_split_masks(load_subject(SUB, store).metadata, names[0], "shared", store=store)


OF_SUBJECT: dict[str, Callable[[Any], Any]] = {
    "repr": repr,
    "html": lambda sub: sub._repr_html_(),
    "dataset": lambda sub: sub.dataset,
    "betas": lambda sub: sub.get_betas("ses-01", roi="FFA1").values,
    "voxels": lambda sub: sub.sel(voxel=sub.dataset["voxel"].values[:3].tolist()).load(),
    "ceiling": lambda sub: sub.get_noise_ceiling("ses-01").values,
    "table": lambda sub: sub.get_trial_info("ses-01"),
    "mask": lambda sub: sub.get_brain_mask(res=None).values,
    "rois": lambda sub: sub.get_roi_data("FFA1"),
    "localizer": lambda sub: sub.get_localizer("floc", "faceVsOthers"),
    "localizers": lambda sub: sub.get_localizer_surface("floc", "faceVsOthers"),
    "volume": lambda sub: sub.get_localizer_volume("floc", "faceVsOthers"),
    "fine": lambda sub: sub.get_roi_volume("FFA1", "1pt5"),
    "events": lambda sub: sub.get_events(),
    "surface": lambda sub: sub.get_surface("midthickness", "L"),
    "mni": lambda sub: sub._recon.from_mni305(),
    "bold": lambda sub: sub.get_bold("ses-01", roi="FFA1").values,
    "averages": lambda sub: sub.get_image_betas(images=sub.metadata["label"][0]).values,
}
OF_STORE: dict[str, Callable[[Path], Any]] = {
    "engine": lambda store: xr.open_dataset(store, engine="laion_zarr", group=SUB),
    "stimuli": lambda store: list(stimuli(store)),
    "splits": lambda store: list(splits(store)),
    "info": lambda store: describe(store, None, None),
    "verify": lambda store: verify(store, progress=False),
}


class Opened:
    """A store, and its subject, opened with the first question that is asked of it."""

    def __init__(self, store: Path) -> None:
        self._store, self._subject = store, None

    def ask(self, name: str) -> Any:
        if name in OF_STORE:
            return OF_STORE[name](self._store)
        self._subject = self._subject or load_subject(SUB, self._store)
        return OF_SUBJECT[name](self._subject)


def in_words(error: BaseException) -> bool:
    """Whether an error is one that we raise on purpose, in clean text."""
    if not str(error).replace("\n", "").isprintable():
        return False
    if isinstance(error, LaionZarrError):
        return True
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = "raise" in (last.line or "") and "/laion_zarr/" in last.filename
    return ours and isinstance(error, ValueError | KeyError | IndexError)


def memory(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0])


def hangs(*_: Any) -> None:
    raise TimeoutError("hangs")


def judge(forge: Forge, number: int, watch: Watch) -> dict[str, Any]:
    case = Case(number)
    made = forge.apply(case.draw(forge.whole), sealed=number % 29 != 0)
    Path("/proc/self/clear_refs").write_text("5")
    base = memory("VmRSS")
    refused, wrong, slowest, slow = 0, [], 0.0, ""
    watch.seen.clear()
    opened = Opened(forge.root)
    for name in (*OF_SUBJECT, *OF_STORE):
        before = time.process_time()
        signal.alarm(SECONDS)
        watch.on = True
        try:
            opened.ask(name)
        except BaseException as error:
            watch.on = False
            signal.alarm(0)
            refused += 1
            if not in_words(error):
                where = traceback.format_exception(error, limit=-4)
                wrong.append(f"{name}: {''.join(where)[-1500:]}")
        watch.on = False
        signal.alarm(0)
        if (took := time.process_time() - before) > slowest:
            slowest, slow = took, name
    peak = memory("VmHWM") - base
    seen = list(watch.seen)
    forge.undo(made)
    return {
        "number": number,
        "kind": case.kind,
        "keys": [f"{key}: {str(its)[:80]}" for key, its in case.change.items()],
        "refused": refused,
        "wrong": wrong,
        "seen": seen,
        "seconds": round(slowest, 2),
        "slowest": slow,
        "megabytes": peak // 1024,
    }


def main(store: Path, outside: Path, first: int, last: int, step: int = 1) -> None:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, hangs)
    np.seterr(all="ignore")
    forge = Forge(store, outside)
    compiled_loops()
    for name in (*OF_SUBJECT, *OF_STORE):  # imports, and caches of libraries
        Opened(store).ask(name)
    watch = Watch(store, outside)
    for number in range(first, last, step):
        print(json.dumps(judge(forge, number, watch)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
