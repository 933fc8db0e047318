"""A small synthetic dataset in the release's layout: for the demo, the tests and the benchmarks.

`phantom` and `cortex` model a head, `experiment` the images and trials, `responses` the betas, maps
and noise ceilings. `dataset`, `freesurfer`, `stimulus_files`, `pictures` with `shapes`, and
`split_files` make the files.

The same size and subject give the same files, byte for byte. The responses depend on the content of
the pictures.

Begin with `dataset.write_dataset`.
"""

from laion_zarr.conversion.synthetic.dataset import SIZES, Size, write_dataset

__all__ = ["SIZES", "Size", "write_dataset"]
