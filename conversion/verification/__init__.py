"""Checks that a store is complete, and that its values equal the values of the source files.

`store` runs all checks, `checks` holds what they share, `vetting` limits what zarr is given to
decode, `sources` recognizes source files, and `subjects` (with `localizers`, `geometry`, `events`
and `bold`) and `stimuli` (with the splits) each check one kind of group. Nothing is imported from
the packages that read the source, plan a conversion and write the store, so that an error in their
code cannot hide itself here. Volumes are read with nibabel, HDF5 files with h5py, tables with
pandas.

Every problem is reported, not only the first. The contents of the arrays are checked only if all
checksums are right, and compared with the source only if no other problem was found.

Begin with `store.verify`; all other checks use `checks.Check`.
"""
