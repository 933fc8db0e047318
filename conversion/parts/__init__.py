"""How each part of the store is made of source files.

One module for a kind of part: a session's betas and trial table (`session`), a subject's voxels and
trials (`subject`), parts of many small files (`pieces`), the stimuli (`stimuli`, with `rows` for
large arrays), the splits (`splits`).

Promises values bit for bit: float32 as it is in the source, NaN included, anything that must be
scaled is scaled in float64 and rounded once. A file that changed while it was read fails its part.

Begin with `session.convert_session`, where nearly all time and memory go.
"""
