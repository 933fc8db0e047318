"""LAION-fMRI as one chunked, labelled Zarr store, read back as lazy xarray."""
