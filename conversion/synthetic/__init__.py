"""A small dataset in the release's layout, made up: for the demo, the tests and the benchmarks.

Knows a made-up brain (`phantom`), a made-up experiment with responses to what pictures show
(`experiment`), and how their files are written (`dataset`, `freesurfer`, `stimulus_files`,
`pictures` with `shapes`, `split_files`).

Promises that the same size and subject give the same files, byte for byte, and that responses go
with what the pictures show.

Begin with `dataset.write_dataset`.
"""

from laion_zarr.conversion.synthetic.dataset import SIZES, Size, write_dataset

__all__ = ["SIZES", "Size", "write_dataset"]
