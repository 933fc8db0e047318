"""Makes each part of the store from source files.

Each module makes one kind of part: a session's betas and trial table (`session`), its preprocessed
time series (`bold`), a subject's voxels and trials (`subject`), parts made of many small files
(`pieces`), localizer maps (`localizers`), cortical surfaces (`geometry`), the events and how trials
are joined with them (`events`), the stimuli (`stimuli`), the splits (`splits`, checked by the rules
of `split_checks`).

Guarantees: float32 values of the source are stored bit for bit, NaN included; values that must be
scaled are scaled in float64 and rounded once. If a file changes while it is read, the part made
from it fails.

Begin with `session.convert_session`, which takes nearly all of the time and memory.
"""
