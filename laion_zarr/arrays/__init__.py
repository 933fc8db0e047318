"""Labelled, lazy xarray objects over the parts of the store, and selection by labels.

Defines the axes that users see: trials in order of sessions and volumes, voxels in ascending C
order of the functional grid. Converts labels to positions (`query`, `select`), positions to Dask
tasks (`dask_blocks`), and positions on the users' voxel axis to rows in storage order (`lazy`, the
only module that undoes the storage order). `labels` aligns arrays by their labels, `dataset`
assembles the `xarray.Dataset` of one subject, `bold` labels preprocessed time series, `localizers`
reads localizer maps, `trial_rows` keeps selected betas for training, and `roi_forms` reads ROIs in
every form that the release has.

Guarantees: labels alone decide which values are selected, opening a subject reads no betas, and
computing a selection reads only chunks that hold selected voxels.

Begin with `query.Query`, the selection of one subject, then `lazy.LazyBetas`, which reads betas.
"""
