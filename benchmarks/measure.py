"""Measurements: median times of functions run alternately, peak memory, requests and bytes read."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from zarr.storage import LocalStore, WrapperStore

REPEATS = 15


@dataclass
class Figure:
    """One measured value, a line of the table; it should be at most `budget`, if one is set."""

    what: str
    value: float
    unit: str
    budget: float | None = None


def report(figures: Iterable[Figure], path: Path | None) -> None:
    """Print each figure as soon as it is measured, beside its budget; write all as JSON."""
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


def measure_in_folder(
    description: str,
    sizes: Mapping[str, Any],
    made: str,
    make: Callable[[Path, Any], None],
    all_figures: Callable[[Path, Any], Iterable[Figure]],
) -> None:
    """Run a benchmark from the command line.

    `make` writes its data into a folder unless the folder holds the file or folder `made`; then the
    figures are measured and printed.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--dir", type=Path, help="folder that keeps the mirrors and the stores")
    parser.add_argument("--size", choices=sizes, default="full")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    root, size = arguments.dir or Path(tempfile.mkdtemp()), sizes[arguments.size]
    if not (root / made).exists():
        make(root, size)
    report(all_figures(root, size), arguments.json)
    if arguments.dir is None:
        shutil.rmtree(root)


def side_by_side(
    works: dict[str, Callable[[], Any]],
    repeats: int = REPEATS,
    of: Callable[[list[float]], float] = median,
) -> dict[str, float]:
    """Median (or `of`) of the wall times, s; run alternately, so a slow moment affects all."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    return {name: of(found[1:]) for name, found in times.items()}  # without the warm-up


def seconds(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median wall time of one function, s."""
    return side_by_side({"it": work}, repeats)["it"]


def timed(work: Callable[[], Any]) -> float:
    """Wall time of one call of a function that takes long, s."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def command(*arguments: str) -> dict[str, float]:
    """Run ``laion-zarr`` and return its wall time (s) and peak RSS (GB) of its largest process."""
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
    """Run Python code in a new process and return the number that it prints."""
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, check=True
    )
    return float(run.stdout)


def touch_memory(nbytes: int) -> None:
    """Use and free memory once: a virtual machine may get its memory only at the first use."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    code = "import sys; m = bytearray(int(sys.argv[1])); m[::4096] = b'x' * len(m[::4096])"
    subprocess.run([sys.executable, "-c", code, str(min(nbytes, free * 3 // 4))], check=True)


class CountingStore(LocalStore):
    """A local store that counts requests and bytes read."""

    requests = 0
    nbytes = 0

    async def get(self, *args: Any, **options: Any) -> Any:
        """Read an object, and count the request and its bytes."""
        value = await super().get(*args, **options)
        self.requests += 1
        self.nbytes += 0 if value is None else len(value)
        return value


class DistantStore(WrapperStore[LocalStore]):
    """A store with the latency of a bucket; counts requests, and rounds of parallel requests."""

    def __init__(self, store: LocalStore, latency: float = 0.03) -> None:
        super().__init__(store)
        self.latency = latency
        self.requests = self.rounds = self.nbytes = self._in_flight = 0

    async def get(self, *args: Any, **options: Any) -> Any:
        """Read an object after `latency` seconds, and count."""
        self.requests += 1
        self.rounds += self._in_flight == 0
        self._in_flight += 1
        await asyncio.sleep(self.latency)
        value = await super().get(*args, **options)
        self._in_flight -= 1
        self.nbytes += 0 if value is None else len(value)
        return value
