"""The converter: from the files of LAION-fMRI to one Zarr store."""
