"""The made-up people of the synthetic dataset: their heads, the experiment, and their responses.

`phantom` and `cortex` model a head, with regions in the volume and on surfaces; `experiment` says
which images and trials there are; `responses` makes betas, maps and noise ceilings from both,
`localizers` the localizer maps, `behaviour` what the people answered, `time_series` the signal of a
run.

Guarantees: all values come from formulas and seeded random numbers, so every machine makes the same
ones; and no module writes a file.

Begin with `experiment.Size`, then `responses.voxel_model`.
"""
