"""The only code that writes to a store: first the objects, then the manifest that lists them.

`writer` writes a part (`rows` its large arrays, row by row), `catalogue` changes a manifest, `root`
writes the objects at the root of the store, and `metadata` makes the ``zarr.json`` of groups and
arrays.

Guarantee: at every moment the manifests list only complete parts. A part that replaces a listed
part is first written to the staging group, on a disk and in a bucket alike.

Begin with `writer.PartWriter`, then `catalogue.Catalogue.commit`.
"""
