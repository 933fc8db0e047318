"""A subject's trials as a PyTorch dataset: betas with pictures, embeddings and captions.

This module can be imported without PyTorch; making a dataset needs PyTorch.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from dask.system import CPU_COUNT

from laion_zarr._release import Ids
from laion_zarr._words import MaskSource
from laion_zarr.arrays import trial_rows
from laion_zarr.arrays.select import as_list
from laion_zarr.arrays.trial_rows import ScratchRows
from laion_zarr.stimuli import picture_files
from laion_zarr.stimuli.embeddings import Embeddings
from laion_zarr.stimuli.handle import StimuliHandle
from laion_zarr.stimuli.keys import TrialKeys
from laion_zarr.store.schema import BETAS, DEFAULT_MASK, IMAGES_PART

if TYPE_CHECKING:
    from torch import Tensor

    from laion_zarr.arrays.query import Query
    from laion_zarr.stimuli.captions import ImageCaptions
    from laion_zarr.stimuli.images import SubjectImages

torch: Any = import_module("torch") if find_spec("torch") else None

IMAGE, CAPTION, EMBEDDING = "image", "caption", "embedding:"
_NO_LABEL = ("", "n/a")


class _SubjectLike(Protocol):
    """Attributes of a subject that a dataset uses; `laion_zarr.subject.Subject` has them."""

    @property
    def _query(self) -> Query: ...

    @property
    def _stimuli(self) -> StimuliHandle: ...

    @property
    def images(self) -> SubjectImages:
        """Pictures by trial."""
        ...

    @property
    def captions(self) -> ImageCaptions:
        """Captions by trial."""
        ...


class LaionFMRIDataset(torch.utils.data.Dataset if torch else object):  # type: ignore[misc]
    """Trials of a subject as a map-style PyTorch dataset; made by `Subject.to_torch_dataset`.

    Betas and embeddings are read once, when the dataset is made; pictures are read and decoded
    batch by batch, each picture once per batch. Items do not depend on the number of ``DataLoader``
    workers or on their start method.

    Parameters
    ----------
    subject : Subject
        Subject as returned by `laion_zarr.load_subject`.
    session, roi, mask, nc_threshold, image_transform, mask_source, include
        As in `Subject.to_torch_dataset`.
    """

    def __init__(
        self,
        subject: _SubjectLike,
        session: Ids | None = None,
        roi: str | Sequence[str] | None = None,
        mask: Any = None,
        nc_threshold: float | None = None,
        image_transform: Callable[[Tensor], Any] | None = None,
        mask_source: MaskSource = DEFAULT_MASK,
        include: str | Sequence[str] = (IMAGE,),
    ) -> None:
        if torch is None:
            raise ImportError(
                "to_torch_dataset needs PyTorch, which is not installed. Install the extra: "
                'pip install "laion-zarr[torch]".'
            )
        wanted = _checked(include)
        query = subject._query
        ids = None if session is None else query.session_ids(session)
        trials = query.trials(ids, None, None, None)
        voxels = query.voxels(roi, mask, mask_source, nc_threshold, ids)
        labels = query.trial_axis(trials)
        names, sessions = labels["image_name"].values, labels["session"].values
        _refuse_unlabelled(names, sessions, labels["beta_index"].values)
        shown = _Shown(subject, trials, names, image_transform)
        parts = {name: shown.part(name) for name in wanted}
        self._parts: dict[str, Callable[[list[int]], Sequence[Any]]] = {
            "betas": _betas(query.select(trials, voxels)[BETAS.name].data),
            **parts,
            "image_name": _Listed(names.tolist()),
            "session": _Listed(sessions.tolist()),
            "rep_index": _Listed(labels["repetition"].values.tolist()),
        }
        self._places = range(len(trials))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Item of one trial."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Items of several trials, read together; PyTorch's ``DataLoader`` calls it for a batch."""
        places = [self._places[operator.index(index)] for index in indices]
        columns = [part(places) for part in self._parts.values()]
        return [
            dict(zip(self._parts, values, strict=True)) for values in zip(*columns, strict=True)
        ]


def _checked(include: str | Sequence[str]) -> list[str]:
    """Entries of `include` without duplicates; refuses unknown entries."""
    wanted = list(dict.fromkeys(as_list(include)))
    for entry in wanted:
        model = isinstance(entry, str) and entry.removeprefix(EMBEDDING) not in ("", entry)
        if entry not in (IMAGE, CAPTION) and not model:
            raise ValueError(
                f"include takes any of '{IMAGE}', '{CAPTION}' and '{EMBEDDING}<model>' (such as "
                f"'{EMBEDDING}CLIP'), got {entry!r}."
            )
    return wanted


def _refuse_unlabelled(names: np.ndarray, sessions: np.ndarray, volumes: np.ndarray) -> None:
    lacking = np.flatnonzero(np.isin(names, _NO_LABEL))
    if lacking.size:
        some = ", ".join(f"{sessions[n]} beta_index {volumes[n]}" for n in lacking[:3])
        raise ValueError(
            f"{lacking.size:,} of {len(names):,} trials have no label ({some}"
            f"{', …' if lacking.size > 3 else ''}): there is no telling what was seen. Mend the "
            "'label' column of the session's trials.tsv and run 'laion-zarr convert' again, or "
            "select other sessions."
        )


@dataclass
class _Listed:
    """Column of a batch: one Python value per trial."""

    values: list[Any]

    def __call__(self, places: list[int]) -> list[Any]:
        return [self.values[place] for place in places]


@dataclass
class _Rows:
    """Column of a batch: one row of a tensor in memory per trial, copied."""

    values: Tensor  # PyTorch sends tensors to workers in shared memory: no worker has a copy
    rows: np.ndarray

    def __call__(self, places: list[int]) -> Sequence[Tensor]:
        # By numpy: waking PyTorch's threads takes longer than indexing a batch.
        return torch.from_numpy(self.values.numpy()[self.rows[places]]).unbind()


@dataclass
class _Streamed:
    """Column of a batch: one row of a scratch file per trial."""

    rows: ScratchRows

    def __call__(self, places: list[int]) -> Sequence[Tensor]:
        return torch.from_numpy(self.rows[places]).unbind()


def _betas(lazy: Any) -> _Rows | _Streamed:
    if lazy.nbytes > trial_rows.MOST_IN_MEMORY:
        return _Streamed(ScratchRows(lazy))
    return _Rows(torch.from_numpy(trial_rows.in_memory(lazy)), np.arange(len(lazy)))


@dataclass
class _Shown:
    """Stimuli of the selected trials: pictures, captions and embeddings."""

    subject: _SubjectLike
    trials: np.ndarray
    names: np.ndarray
    transform: Callable[[Tensor], Any] | None

    def part(self, name: str) -> Callable[[list[int]], Sequence[Any]]:
        """Column of a batch for an entry of `include`, by position among the selected trials."""
        if name == IMAGE:
            return self._pictures()
        if name == CAPTION:
            return self._captions()
        return self._embeddings(name.removeprefix(EMBEDDING))

    def _pictures(self) -> _Pictures:
        rows = self.subject.images._there(self.trials)
        return _Pictures(self.subject._stimuli, rows, self.transform)

    def _embeddings(self, model: str) -> _Rows:
        """Embedding of each distinct image, and the image of each trial."""
        handle = self.subject._stimuli
        found = Embeddings(handle, TrialKeys(handle, self.subject._query), [model])
        _, first, images = np.unique(self.names, return_index=True, return_inverse=True)
        values = found.get(model, self.trials[first]).values.astype(np.float32)
        return _Rows(torch.from_numpy(values), images)

    def _captions(self) -> _Listed:
        """Best human caption of each trial's image, or an empty string."""
        table = self.subject.captions.metadata
        people = table[table["source"] == "human"].sort_values("caption_idx", kind="stable")
        best = people.drop_duplicates("image_name").set_index("image_name")["caption"].to_dict()
        return _Listed([best.get(name, "") for name in self.names.tolist()])


@dataclass
class _Pictures:
    """Column of a batch: pictures as displayed, scaled to 0-1, then transformed."""

    handle: StimuliHandle
    rows: np.ndarray
    transform: Callable[[Tensor], Any] | None

    def __call__(self, places: list[int]) -> list[Any]:
        rows = self.rows[places]
        if self.transform is None:
            self._refuse_sizes(np.unique(rows))
        # Decoding and scaling release the GIL. A DataLoader worker is one of several processes: it
        # uses one thread.
        n_threads = 1 if torch.utils.data.get_worker_info() else CPU_COUNT
        with ThreadPoolExecutor(n_threads) as pool:
            scaled = self._scaled(rows.tolist(), pool, 2 * n_threads)
            # Sequentially and in order: a transform may draw random numbers.
            return [self._transformed(torch.from_numpy(picture)) for picture in scaled]

    def _scaled(self, rows: list[int], pool: ThreadPoolExecutor, at_once: int) -> Iterator[Any]:
        """Scaled pictures in the order of `rows`; each is decoded at its first occurrence."""
        unique = list(dict.fromkeys(rows))
        files = dict(zip(unique, picture_files.read(self.handle, unique), strict=True))
        left = Counter(rows)
        decoded: dict[int, np.ndarray] = {}
        for lo in range(0, len(rows), at_once):
            some = rows[lo : lo + at_once]
            new = [row for row in dict.fromkeys(some) if row in files]
            pixels = pool.map(self._pixels, new, [files.pop(row) for row in new])
            decoded |= dict(zip(new, pixels, strict=True))
            yield from pool.map(_scaled, [decoded[row] for row in some])
            left.subtract(some)
            decoded = {row: its for row, its in decoded.items() if left[row]}

    def _pixels(self, row: int, file: bytes) -> np.ndarray:
        return np.asarray(picture_files.displayed(picture_files.decode(self.handle, row, file)))

    def _transformed(self, picture: Tensor) -> Any:
        return picture if self.transform is None else self.transform(picture)

    def _refuse_sizes(self, rows: np.ndarray) -> None:
        """Refuse pictures of different sizes, which cannot be stacked into a batch."""
        height, width = (size[rows] for size in picture_files.sizes(self.handle))
        known = np.flatnonzero(height)  # height 0: decoding raises the error for these pictures
        odd = known[(height[known] != height[known[:1]]) | (width[known] != width[known[:1]])]
        if odd.size:
            names = self.handle.names(IMAGES_PART)[rows]
            examples = [f"{names[n]} ({height[n]} × {width[n]})" for n in (known[0], odd[0])]
            raise ValueError(
                f"The pictures of a batch differ in size: {', '.join(examples)}. Pass an "
                "image_transform that makes them one size."
            )


def _scaled(pixels: np.ndarray) -> np.ndarray:
    """(y, x, channel) uint8 -> (channel, y, x) float32 in 0-1; several times as fast as PyTorch."""
    scaled = np.empty((3, *pixels.shape[:2]), np.float32)
    return np.divide(pixels.transpose(2, 0, 1), np.float32(255), out=scaled)
