"""Statistics over trials and images: labels in, labels out, lazy where the input is.

Knows repeats of images (`repeats`), noise ceilings and reliability (`reliability`), the
dissimilarity of responses (`dissimilarity`), encoding models and their scores (`encoding`,
`scoring`), and permutation tests (`permutation`). Takes labelled arrays; knows no subject.

Promises that arrays are joined by label. Betas as `Subject.get_betas` returns them are read in the
order in which they are stored, all trials of some voxels at a time, each chunk once: memory is
bounded by that, not by the subject. Anything else (a product, a sorted axis, an array in memory) is
taken as it is.

Begin with `repeats.average_repeats`, then `stream`, which reads betas in storage order.
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
