"""The Zarr store: bytes on disk or in a bucket <-> numpy arrays, verified by checksums.

Modules: the room `schema` (groups, arrays, dims, dtypes, units and chunk sizes, in tables that the
converter and the reader share), `codec` (codecs and checksums), `manifest` and `parts` (the
manifests, which list the complete parts of each group), `chunks` (byte ranges of chunks),
`objects`, `remote` and `retry` (requests to a disk or to object storage, retries, error messages),
`causes` (what errors of the operating system mean), and `handle` (an open group that other
processes can use). This package does not depend on subjects, selections or xarray.

Guarantees: returned data were compared with the checksums that the converter recorded, and a
missing, swapped or damaged object raises a `laion_zarr.errors.StoreError` that names the object.

Begin with `schema`, then `parts.StoredParts`; `chunks.ChunkedArray` reads the large arrays.
"""
