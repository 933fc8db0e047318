"""The store: bytes on disk or in a bucket <-> numpy arrays, with every byte proven.

Knows the schema (`schema`: groups, arrays, dims, dtypes, units, chunk sizes, in one table that the
converter and the reader share), the codecs and checksums (`codec`), the manifests that say which
parts are whole (`manifest`, `parts`), the byte ranges of chunks (`chunks`), and how object storage
is asked, asked again and put into words (`remote`, `retry`). Knows no subject, no selection and no
xarray.

Promises that whatever it returns was compared with the checksum that the converter recorded, and
that a missing, swapped or damaged object is a `laion_zarr.errors.StoreError` that names it.

Begin with `schema`, then `parts.StoredParts`; `chunks.ChunkedArray` reads the large arrays.
"""
