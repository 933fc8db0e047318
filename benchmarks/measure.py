"""Measuring: medians of works that take turns, peak memory of a process, reads counted."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from zarr.storage import LocalStore, WrapperStore

REPEATS = 15


@dataclass
class Figure:
    """One line of a table: at most `budget`, where there is one."""

    what: str
    value: float
    unit: str
    budget: float | None = None


def report(figures: Iterable[Figure], path: Path | None) -> None:
    """Print what was measured as it comes, beside what was promised; write JSON."""
    found = []
    for figure in figures:
        promised = ""
        if figure.budget is not None:
            mark = "" if figure.value <= figure.budget else "  MISSED"
            promised = f"≤ {figure.budget:.3g}{mark}"
        print(f"{figure.what:<76}{figure.value:10.3g} {figure.unit:<13}{promised}", flush=True)
        found.append(asdict(figure))
    if path is not None:
        text = json.dumps(found, indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def side_by_side(works: dict[str, Callable[[], Any]], repeats: int = REPEATS) -> dict[str, float]:
    """Median wall time of each; they take turns, so that a slow moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    return {name: median(found[1:]) for name, found in times.items()}  # the first is a warm-up


def seconds(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median wall time of one work."""
    return side_by_side({"it": work}, repeats)["it"]


def timed(work: Callable[[], Any]) -> float:
    """Wall time of a long work, done once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def command(*arguments: str) -> dict[str, float]:
    """Run ``laion-zarr`` -> its wall time and the peak RSS (GB) of it or its largest worker."""
    code = (
        "import resource, sys; from laion_zarr.conversion.cli import main; "
        "status = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(status)"
    )
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        workers = int(process.stdout.read().split()[-1])
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    assert status == 0, arguments
    wall = time.perf_counter() - start
    return {"seconds": wall, "peak_gb": max(workers, usage.ru_maxrss) * 1024 / 1e9}


def in_child(code: str, *arguments: str | Path) -> float:
    """Run Python code in a process of its own -> the number that it prints."""
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, check=True
    )
    return float(run.stdout)


def touch_memory(nbytes: int) -> None:
    """Touch memory and let it go: a virtual machine may have to get it from its host first."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    code = "import sys; m = bytearray(int(sys.argv[1])); m[::4096] = b'x' * len(m[::4096])"
    subprocess.run([sys.executable, "-c", code, str(min(nbytes, free * 3 // 4))], check=True)


class CountingStore(LocalStore):
    """A local store that counts what is read."""

    requests = 0
    nbytes = 0

    async def get(self, *args: Any, **options: Any) -> Any:
        """Read, and count."""
        value = await super().get(*args, **options)
        self.requests += 1
        self.nbytes += 0 if value is None else len(value)
        return value


class DistantStore(WrapperStore[LocalStore]):
    """A store as far away as a bucket: every request takes a while; counts them, and the rounds."""

    def __init__(self, store: LocalStore, latency: float = 0.03) -> None:
        super().__init__(store)
        self.latency = latency
        self.requests = self.rounds = self.nbytes = self._in_flight = 0

    async def get(self, *args: Any, **options: Any) -> Any:
        """Read after a while, and count."""
        self.requests += 1
        self.rounds += self._in_flight == 0
        self._in_flight += 1
        await asyncio.sleep(self.latency)
        value = await super().get(*args, **options)
        self._in_flight -= 1
        self.nbytes += 0 if value is None else len(value)
        return value
