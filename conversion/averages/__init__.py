"""Makes a subject's averages over the trials of each image, from the betas that the store has.

`making` averages block after block of voxels, in threads; `sizes` says how much memory and disk
that takes; `shards` writes a block.

Guarantees: values are those of `Subject.get_image_betas`, bit for bit, and depend neither on the
number of threads nor on the memory; each chunk of betas is read once; and what was read is proven,
since it is read as every user reads it.

Begin with `making.AveragesMaker`.
"""
