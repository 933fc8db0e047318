"""Decides what a run has to do: reads the source and the store, writes neither.

Knows what of the source has changed since it was converted (`changes`), what each subject needs
(`subjects`), and which voxels, in which order, become a subject's voxel axis (`voxel_axis`).

Promises that what is stored and unchanged is left alone, and that ``--overwrite`` is refused where
it would lose what the source no longer has.

Begin with `subjects.Planner.plan`.
"""
