"""The class `Subject`: the data of one subject, returned as labelled, lazy arrays.

Each module has one group of methods: betas (`subject`), masks, ROIs and noise ceilings
(`regions`), localizer maps (`localizers`), tables of trials and events (`events`), time series
(`bold`), cortical surfaces and files of the local mirror (`anatomy`), template spaces
(`template_space`), volumes and figures (`brain_space`), the stimuli by trial (`stimuli`). `base`
holds the open store and the query that all methods select with. Reading and computing is done in
the packages that these modules import.

The voxel axis of every array is in ascending C order of the functional grid, and no betas are read
before an array is computed.

Begin with `subject.Subject`, whose methods are a few lines each: open, select, return.
"""

from laion_zarr.subject.subject import Subject, load_subject

__all__ = ["Subject", "load_subject"]
