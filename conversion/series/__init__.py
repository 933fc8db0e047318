"""Conversion of one 4-D series, such as the betas of a session, within a bounded memory.

Modules: `task` (what a worker needs to convert one part), `slabs` (voxels collected volume by
volume, in memory or in a scratch file), `volumes` (reads the volumes of a file, inflated by a
thread of its own), `shards` (encodes and writes slab after slab). What a series means and which
labels lie beside it is known to the rooms above.

Guarantees: values equal those of the file, bit for bit where these are float32; and memory stays
within what `conversion.budget.SessionSize` says.

Begin with `slabs.Slabs`.
"""
