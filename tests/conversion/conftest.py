"""The small mirror and its stores, as fixtures of all tests of the conversion."""

from small_mirror import (  # noqa: F401
    first,
    first_store,
    kept,
    lean,
    mirror,
    new,
    whole,
    whole_lean,
    whole_store,
)
