"""A store that remembers which keys and byte ranges were read."""

from __future__ import annotations

from typing import Any

from zarr.storage import LocalStore

BULK = ("/data/c/", "/embedding/c/", "/masks/c/")  # the large arrays of the stimuli


class CountingStore(LocalStore):
    """Remembers each read: its key, the range asked for, and how many bytes it gave."""

    def __init__(self, root: Any, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        self.reads: list[tuple[str, Any, int]] = []

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """Read, and remember the read."""
        value = await super().get(key, prototype, byte_range)
        self.reads.append((key, byte_range, 0 if value is None else len(value)))
        return value

    def of_betas(self) -> list[tuple[str, int]]:
        """Key and bytes of each read of betas."""
        return [(key, size) for key, _, size in self.reads if "/betas/" in key]

    def bulk(self) -> list[tuple[str, Any, int]]:
        """Reads of the large arrays of the stimuli."""
        return [read for read in self.reads if any(part in read[0] for part in BULK)]

    def small(self) -> list[str]:
        """Keys of all other reads."""
        return [key for key, _, _ in self.reads if not any(part in key for part in BULK)]
