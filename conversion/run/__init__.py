"""One run of the converter: which process converts which part, and in which order.

`pipeline` and `stimuli` set the order of the work and commit the parts (`trial_table` makes the one
that depends on others, `averages` those that are made of betas alone); `workers` starts processes
on this machine, `cluster` uses the workers of a Dask cluster. `left_out` says what of a mirror is
not read, and what was asked for in vain. The package `planning` decides which parts must be
converted, the packages `parts` and `averages` make each of them.

Guarantees: one damaged file fails only the parts that need the file; a part is listed in a manifest
only when it is complete; a killed worker or run leaves no incomplete part that a reader could take
for a complete one.

Begin with `pipeline.convert`, then `pipeline.run_conversion`.
"""
