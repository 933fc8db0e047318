"""Questions to a subject, and child processes that answer them at the same time.

Run as a script, this file opens a store, computes the answers, and has children compute the same.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext

import pandas as pd
import xarray as xr

from laion_zarr import load_subject

SUB = "sub-01"


PATIENCE = 300  # seconds; what takes longer hangs


def questions(sub):
    """A bit of everything that a subject answers, lazy where it can be."""
    return {
        "region": sub.get_betas(roi="face", nc_threshold=5),
        "regions": sub.get_betas(roi=["EBA", "laiongeneral"], chunks={"trial": -1, "voxel": 50}),
        "session": sub.get_betas("ses-02", mask_source="rsquare", chunks={"trial": 2}),
        "selection": sub.sel(roi="all", stimuli="shared"),
        "map": sub.dataset["r2"],
        "ceiling": sub.get_noise_ceiling(session="ses-07"),
        "trials": sub.get_trial_info("ses-03"),
        "metadata": sub.metadata,
    }


def digest(answer, scheduler=None):
    """A checksum of all values and labels."""
    if isinstance(answer, pd.DataFrame):
        answer = answer.to_xarray()
    if isinstance(answer, xr.DataArray):
        answer = answer.to_dataset(name="values")
    found = hashlib.md5()
    for name, variable in sorted(answer.compute(scheduler=scheduler).variables.items()):
        values = variable.values
        found.update(f"{name} {variable.dims} {values.dtype} {values.shape}".encode())
        found.update(repr(values.tolist()).encode() if values.dtype == object else values.tobytes())
    return found.hexdigest()


def answers(sub, scheduler=None):
    return {name: digest(answer, scheduler) for name, answer in questions(sub).items()}


def answer_into(connection, thing):
    """In a child process: answer for the subject or the lazy arrays that were sent."""
    if isinstance(thing, dict):
        found = {name: digest(answer) for name, answer in thing.items()}
    else:
        found = answers(thing, "synchronous")
    connection.send(found)
    connection.close()


def ask_children(context, things):
    """Answers of one child process for each thing; all children run at once."""
    children = []
    for thing in things:
        ours, theirs = context.Pipe()
        process = context.Process(target=answer_into, args=(theirs, thing), daemon=True)
        process.start()
        children.append((process, ours))
    for process, ours in children:
        assert ours.poll(PATIENCE), "a child hangs"
        yield ours.recv()
        process.join()
        assert process.exitcode == 0


@contextmanager
def reading(sub) -> Iterator[None]:
    """A thread that goes on reading."""
    stop = threading.Event()

    def read():
        while not stop.wait(0.001):
            sub.get_betas(roi="EBA", session="ses-04").compute(scheduler="synchronous")

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main(method, store, rounds):
    """Read here, then in processes started by `method`; prints how many answers were right."""
    sub, unread = load_subject(SUB, store), load_subject(SUB, store)
    once, count = answers(sub), 0
    lazy = questions(sub)
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["dask.array", "laion_zarr.subject", "pytest"])
    for number in range(int(rounds)):
        # Every other time while a thread goes on reading. Not while forking: a lock that another
        # thread holds at that moment, and Dask has some, stays locked in the child.
        with reading(sub) if number % 2 and method != "fork" else nullcontext():
            for found in ask_children(context, [sub, unread, lazy]):
                assert found == once
                count += len(found)
    with ProcessPoolExecutor(2, context) as pool:
        for name, found in zip(lazy, pool.map(digest, lazy.values()), strict=True):
            assert found == once[name]
            count += 1
    assert answers(sub) == once  # and here as before
    print(count)


def run_main(method, store, n_rounds):
    """`main` in an interpreter of its own, where nothing else has made threads."""
    # What newer Pythons say of any fork beside threads, which zarr always has.
    quiet = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    result = subprocess.run(
        [sys.executable, *quiet, __file__, method, store, str(n_rounds)],
        capture_output=True,
        text=True,
        timeout=PATIENCE * (n_rounds + 2),
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
