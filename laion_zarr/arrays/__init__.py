"""From the store's parts to labelled, lazy xarray objects, and from labels to what is read.

Knows the axes that users see: trials in session and volume order, voxels in ascending C order of
the functional grid. Turns labels into positions (`query`, `select`), positions into Dask tasks
(`dask_blocks`), and positions on the users' voxel axis into rows in storage order (`lazy`, the only
place that undoes the storage order). `labels` aligns arrays by their labels, `dataset` puts one
subject's `xarray.Dataset` together.

Promises that labels alone decide what is selected, that opening reads labels only, and that only
chunks which hold the selected voxels are read.

Begin with `query.Query`, the selection of one subject, then `lazy.LazyBetas`, which reads it.
"""
