"""The only code that reads the files of the release, in a folder or in a bucket.

`files` and `remote` list, identify and open files. Their content is parsed by `nifti` (NIfTI),
`surfaces` (GIFTI and FreeSurfer labels), `tables` (TSV and CSV) and `hdf5` (HDF5). `splits` reads
split files, which are published elsewhere.

Guarantees: every problem with a file is a `laion_zarr.errors.SourceError` that names the file, what
was expected and what was found (`problems`); a large file is converted in one pass over its data.

Begin with `files.Source`, then `nifti.Volume`.
"""
