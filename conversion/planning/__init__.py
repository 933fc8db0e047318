"""Decides which parts a run must convert: reads the source and the store, writes to neither.

`changes` finds source files that have changed since they were converted, `subjects` decides which
`changes` finds source files that have changed since they were converted, `subjects` decides which
parts of each subject must be written (`bold`: time series; `small_parts`: the table of all other
parts but the betas; `losses`: what could not be made again), and `voxel_axis` decides which voxels,
in which order, form a subject's voxel axis. `wanted` says which parts the files of a mirror become,
and in which folders they lie. `outdated` compares all of a source with a store: `versions` file by
file, `differences` is its report.

Guarantees: a stored part whose source files are unchanged is not converted again, unless the user
asks for ``--overwrite``; and ``--overwrite`` is refused if it would lose data that the source no
longer has.

Begin with `subjects.Planner.plan`.
"""
