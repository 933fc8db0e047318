"""One run of the converter: who does what, in which process, and in which order.

Knows the order of the work and what is committed when (`pipeline`, `stimuli`), processes of this
machine (`workers`), and the workers of a Dask cluster (`cluster`). What is to be done was decided
by `planning`, how each part is made is known to `parts`.

Promises that one bad file fails only what needs the file, that a part counts when it is whole, and
that a killed worker or run leaves nothing that could be taken for whole.

Begin with `pipeline.convert`, then `pipeline.run_conversion`.
"""
