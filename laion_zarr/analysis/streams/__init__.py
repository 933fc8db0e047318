"""Statistics of all trials of a voxel, while each chunk of betas is read once.

`stream` reads the sessions of a group of voxels in storage order and hands their betas to a
statistic; `sums` says what is kept of them where they are added up as they are unpacked; `compiled`
adds them up in loops that numba compiled, and is imported by the first task only.

Guarantees: values do not depend on the number of threads, on the groups, or on whether numba is
there; a chunk is read once, and proven.

Begin with `stream.Stream`.
"""
