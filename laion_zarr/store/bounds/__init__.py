"""Limits of what a file of the store may say: a store may come from a stranger.

`text` parses JSON, `manifests` holds what manifests list, `nodes` what a ``zarr.json`` says of an
array or a group, `attributes` its attributes, `payloads` the headers of compressed bytes, `tables`
chunk tables and other positions. Nothing is read here: these are checks of bytes, and of values
that were parsed. The limits are many times what the dataset needs.

Guarantees: what passes takes memory and time in proportion to the limits here, and leads nowhere
but into the group that it belongs to; everything else raises `text.OutOfBounds`, whose message is a
clause that says what was found and what was expected. Who calls adds the file and the remedy.

Begin with `text.parse`, then `nodes.check_array`.
"""
