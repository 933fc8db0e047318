"""The only code that reads the files of the release, in a folder or in a bucket.

`files` and `remote` list and open files; `identity` says by what a version of a file is recognized.
Their content is parsed by `nifti` (NIfTI), `surfaces` (GIFTI and FreeSurfer labels), `tables` (TSV
and CSV), `hdf5` (HDF5) and `json_text` (JSON). `splits` reads split files, which are published
elsewhere.

Guarantees: every problem with a file is a `laion_zarr.errors.SourceError` that names the file, what
was expected and what was found (`problems`); a large file is converted in one pass over its data.

Begin with `files.Source`, then `nifti.Volume`.
"""
