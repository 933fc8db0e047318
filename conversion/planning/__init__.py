"""Decides which parts a run must convert: reads the source and the store, writes to neither.

`changes` finds source files that have changed since they were converted, `subjects` decides which
parts of each subject must be written (`small_parts` is the table of all but the betas), and
`voxel_axis` decides which voxels, in which order, form a
subject's voxel axis.

Guarantees: a stored part whose source files are unchanged is not converted again, unless the user
asks for ``--overwrite``; and ``--overwrite`` is refused if it would lose data that the source no
longer has.

Begin with `subjects.Planner.plan`.
"""
