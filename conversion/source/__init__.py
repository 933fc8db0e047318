"""The only reader of the release's files, in a folder or in a bucket.

Knows where files are and which version of them is there (`files`, `remote`), and what is in them:
NIfTI (`nifti`), GIFTI and FreeSurfer labels (`surfaces`), TSV and CSV (`tables`), HDF5 (`hdf5`).

Promises that every problem with a file is a `laion_zarr.errors.SourceError` that names the file,
what was expected and what was found (`problems`), and that a large file is read once, front to
back.

Begin with `files.Source`, then `nifti.Volume`.
"""
