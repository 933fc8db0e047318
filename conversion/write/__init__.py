"""The only writer of a store: objects, then the manifest that makes them count.

Knows how a part is written (`writer`), how a manifest changes (`catalogue`), what lies at the root
(`root`), and the form of Zarr's metadata (`metadata`).

Promises that at every moment the manifests name whole parts: a part that replaces a listed one
waits in the staging group until it is whole, on a disk and in a bucket alike.

Begin with `writer.PartWriter`, then `catalogue.Catalogue.commit`.
"""
