"""Statistics of all trials of a voxel, while each chunk of betas is read once.

`stream` reads the sessions of a group of voxels in storage order and hands their betas to a
statistic; `trials` says which of them are of one image or z-scored together; `blocks` makes Dask
arrays of what it computes; `sums` says what is kept of betas where they are added up as they are
unpacked; `compiled` adds them up in loops that numba compiled, and `native` also reads and unpacks
them there, if they are in files. Both are imported by the first task only.

Guarantees: values do not depend on the number of threads, on the groups, on where chunks lie, or,
but for rounding, on whether numba is there; a chunk is proven, and read once, or twice if a voxel
of it has NaN.

Begin with `stream.Stream`.
"""
