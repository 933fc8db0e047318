"""A store whose betas wait for a file, so that a test can kill a process that reads or writes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore


class WaitingStore(LocalStore):
    """Says in a folder which process is at the gate, and waits there until it is opened.

    Parameters
    ----------
    root : Path
        Of the store.
    gate : Path
        The folder.
    free : int
        Betas that each process reads before it waits.
    """

    def __init__(self, root: Path, gate: Path, free: int = 0) -> None:
        super().__init__(root)
        self.gate, self.free = gate, free

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "gate": self.gate, "free": self.free}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        """Read, when the gate is open."""
        if "/betas/c/" in key:
            self.free -= 1
            if self.free < 0:
                await self._wait()
        return await super().get(key, *args, **options)

    async def set(self, key: str, *args: Any, **options: Any) -> None:
        """Write, when the gate is open."""
        if "/betas/c/" in key:
            await self._wait()
        await super().set(key, *args, **options)

    async def _wait(self) -> None:
        (self.gate / f"{os.getpid()} waits").touch()
        while not (self.gate / "open").exists():
            await asyncio.sleep(0.02)


def waiting(gate: Path) -> list[int]:
    """Processes that were at the gate."""
    return sorted(int(path.name.split()[0]) for path in gate.glob("* waits"))
