"""Split files of the made-up experiment, in the schema of the published split files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from laion_zarr._release import OOD_TYPES
from laion_zarr.conversion.synthetic.model import experiment
from laion_zarr.conversion.synthetic.model.experiment import CONTENTS, Size
from laion_zarr.splits import rules


def _random_folds(pool: str, ids: list[str]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Parameters and test images of each ``random_*``, as the published revision of the pool."""
    revision = rules.revisions(pool)[-1]
    tests = [rules.random_test(len(ids), k, 1).tolist() for k in range(rules.N_FOLDS)]
    if revision == 2:  # as published: some images change places with images of the next fold
        for here, there in pairwise(tests):
            here[0], there[-1] = there[-1], here[0]
    for k, test in enumerate(tests):
        yield rules.random_params(k, revision), [ids[n] for n in sorted(test)]


def _divisions(
    pool: str, ids: list[str], ood: list[str]
) -> Iterator[tuple[str, str, dict[str, Any], list[str]]]:
    """Name, splitter, parameters and test images of each split of a pool."""
    features = np.array([experiment.features(name) for name in ids])[:, : len(CONTENTS)]
    # Images sorted by content, and within a content by the value of its feature.
    alike = np.lexsort((features.max(axis=1), features.argmax(axis=1)))
    for k, cluster in enumerate(np.array_split(alike, rules.N_FOLDS)):
        test = [ids[n] for n in np.sort(cluster)]
        yield f"cluster_k5_{k}", "synthetic", {"held_out_cluster": k}, test
    tau = [ids[n] for n in np.sort(alike[:: rules.N_FOLDS])]
    yield "tau", "synthetic", {"every": rules.N_FOLDS}, tau
    if pool != rules.POOLED:
        for k, (params, test) in enumerate(_random_folds(pool, ids)):
            yield f"random_{k}", rules.FOLDED[0], params, test
        params = {"method": "ood_dataset_holdout", "ood_types": list(OOD_TYPES)}
        yield "ood", "ood_holdout", params, ood


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
        for name, splitter, params, test in _divisions(pool, ids, ood):
            held_out = set(test)
            train = [label for label in ids if label not in held_out]
            content = {
                "name": name,
                "pool": pool,
                "splitter": splitter,
                "params": params,
                "n_train": len(train),
                "n_test": len(test),
                "variants": [{"variant_id": 0, "train_ids": train, "test_ids": test}],
            }
            path = Path(folder) / pool / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, indent=1), encoding="utf-8", newline="\n")
    return Path(folder)
