"""Checks that a store is whole, and that its values are those of the source.

By code of its own: nothing of the rooms that read the source, plan and write is imported here, so
that a fault there cannot hide itself. Volumes are read by plain nibabel, tables by plain pandas.

Promises that every problem is found and named, not only the first.

Begin with `store.verify`; `checks.Check` is what all others share.
"""
