"""Split files of the made-up experiment, in the schema of the published split files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from laion_zarr.conversion.synthetic import experiment
from laion_zarr.conversion.synthetic.experiment import CONTENTS, Size
from laion_zarr.splits import rules

_FIFTH = 5


def _divisions(ids: list[str], ood: list[str]) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """Name, parameters and test images of each split of a pool."""
    features = np.array([experiment.features(name) for name in ids])[:, : len(CONTENTS)]
    # Images sorted by content, and within a content by the value of its feature.
    alike = np.lexsort((features.max(axis=1), features.argmax(axis=1)))
    for k, cluster in enumerate(np.array_split(alike, _FIFTH)):
        yield f"random_{k}", {"seed": k}, rules.random_ids(ids, k)[1]
        yield f"cluster_k5_{k}", {"held_out_cluster": k}, [ids[n] for n in np.sort(cluster)]
    yield "tau", {"every": _FIFTH}, [ids[n] for n in np.sort(alike[::_FIFTH])]
    yield "ood", {}, ood


def write_splits(folder: str | os.PathLike[str], size: Size) -> Path:
    """Write the train/test splits of a synthetic dataset for every pool of images.

    Parameters
    ----------
    folder : str or path
        Folder to write ``<pool>/<name>.json`` into; made if it does not exist.
    size : Size
        Size of the dataset.

    Returns
    -------
    Path
        Path of the folder.
    """
    metadata = experiment.metadata(size)
    for pool in rules.POOLS:
        ids, ood = rules.pool_ids(metadata, pool)
        for name, params, test in _divisions(ids, ood):
            held_out = set(test)
            train = [label for label in ids if label not in held_out]
            content = {
                "name": name,
                "pool": pool,
                "splitter": "synthetic",
                "params": params,
                "n_train": len(train),
                "n_test": len(test),
                "variants": [{"variant_id": 0, "train_ids": train, "test_ids": test}],
            }
            path = Path(folder) / pool / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, indent=1), encoding="utf-8", newline="\n")
    return Path(folder)
