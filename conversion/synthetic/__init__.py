"""A small synthetic dataset in the release's layout: for the demo, the tests and the benchmarks.

The room `model` says which values there are; the modules here make the files: `dataset` all of them
(through `folder`), `freesurfer` the recon, `localizer_files` the localizer maps, `time_series` the
time series and raw data, `stimulus_files`, `pictures` with `shapes`, and `split_files` the rest.

The same size and subject give the same files, byte for byte. The responses depend on the content of
the pictures.

Begin with `dataset.write_dataset`.
"""

from laion_zarr.conversion.synthetic.dataset import SIZES, Size, write_dataset

__all__ = ["SIZES", "Size", "write_dataset"]
