"""Statistics over trials and images: labelled arrays in and out, lazy where the input is lazy.

The modules cover repeats of images (`repeats`; `averages` reads those that the store has), noise
ceilings and reliability (`reliability`), the dissimilarity of responses (`dissimilarity`), encoding
models and their scores (`encoding`, `scoring`; on a GPU: `device`), and permutation tests
(`permutation`). The functions take labelled arrays and do not depend on `Subject`.

Arrays are always joined by label. Betas that `Subject.get_betas` returned are read in storage
order, all trials of a group of voxels at a time, each chunk once: memory use depends on the size of
a group, not on the size of the subject's data. Any other array (a product of betas, betas with a
reordered axis, an array in memory) is processed without regard to storage order. The room
`streams` below reads them.

Begin with `repeats.average_repeats`, then the room `streams`, which reads betas in storage order.
"""

from __future__ import annotations

from laion_zarr.analysis.dissimilarity import rdm
from laion_zarr.analysis.encoding import fit_encoding
from laion_zarr.analysis.permutation import permutation_pvalue
from laion_zarr.analysis.reliability import noise_ceiling, split_half_reliability
from laion_zarr.analysis.repeats import average_repeats, zscore
from laion_zarr.analysis.scoring import predict, score

__all__ = [
    "average_repeats",
    "fit_encoding",
    "noise_ceiling",
    "permutation_pvalue",
    "predict",
    "rdm",
    "score",
    "split_half_reliability",
    "zscore",
]
