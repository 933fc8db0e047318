"""One subject: what a user asks of a subject, each answer one labelled, lazy array.

Knows the questions, and leaves the answers to the rooms below: betas, noise ceilings and trials
(`subject`), masks and ROIs (`regions`, `roi_forms`), files of the local mirror (`anatomy`), volumes
and template spaces (`brain_space`), the stimuli by trial (`stimuli`). `base` holds the open store
and the query that all of them select with.

Promises that the voxel axis is the same in every answer, in ascending C order of the functional
grid, and that no answer reads betas before it is computed.

Begin with `subject.Subject`, whose methods are a few lines each: open, select, return.
"""

from laion_zarr.subject.subject import Subject, load_subject

__all__ = ["Subject", "load_subject"]
