"""The Zarr store: bytes on disk or in a bucket <-> numpy arrays, verified by checksums.

Modules: the rooms `schema` (groups, arrays, dims, dtypes, units and chunk sizes, in tables that the
converter and the reader share) and `bounds` (limits of what a file may say), `codec` (codecs and
checksums), `manifest` and `parts` (the manifests, which list the complete parts of each group),
`chunks` (byte ranges of chunks), `objects`, `disk`, `remote` and `retry` (requests to a disk or to
object storage, retries, error messages), `causes` (what errors of the operating system mean), and
`handle` (an open group that other processes can use). This package does not depend on subjects,
selections or xarray.

Guarantees: returned data were compared with the checksums that the converter recorded, and a
missing, swapped or damaged object raises a `laion_zarr.errors.StoreError` that names the object.
Nothing outside of the store is read or written, and no object takes more memory than its array.

Begin with `schema`, then `parts.StoredParts`; `chunks.ChunkedArray` reads the large arrays.
"""
