"""Convert sessions in worker processes of this machine.

Each session gets a new Python process: its memory is freed when the process ends, a crash fails
only this session, and a script that calls `convert` needs no ``if __name__ == "__main__"``. With
one worker, the sessions are converted in the calling process.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import IO

from laion_zarr.conversion.options import PROBLEMS
from laion_zarr.conversion.series.task import Progress, SeriesTask
from laion_zarr.errors import LaionZarrError
from laion_zarr.store.parts import Part

_REPORT_EVERY = 32 << 20
Outcome = Part | Exception


def run(
    tasks: Sequence[SeriesTask], n_workers: int, progress: Progress, lock: int | None
) -> Iterator[tuple[SeriesTask, Outcome]]:
    """Convert sessions, `n_workers` at a time; yield each, when it ends, with its part or error.

    `lock` is the file descriptor of the lock on the store. The worker processes inherit it, so that
    the store stays locked while a worker runs, even if this process is killed.
    """
    if n_workers == 1:
        for task in tasks:
            yield task, guarded(partial(task.convert, progress))
        return
    running: set[subprocess.Popen[bytes]] = set()
    with ThreadPoolExecutor(n_workers) as pool:
        futures = {
            pool.submit(guarded, partial(_in_process, task, progress, lock, running)): task
            for task in tasks
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.kill()


def guarded(work: Callable[[], Part]) -> Outcome:
    """Return the part that `work` makes, or its exception if that is one of `PROBLEMS`."""
    try:
        return work()
    except PROBLEMS as error:
        _let_go(error)
        return error


def _let_go(error: BaseException | None) -> None:
    """Clear the frames of a traceback, which keep a session's betas or scratch file alive."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _in_process(
    task: SeriesTask,
    progress: Progress,
    lock: int | None,
    running: set[subprocess.Popen[bytes]],
) -> Part:
    process = subprocess.Popen(
        # -P: import the installed package, not a module of that name in the current folder.
        [sys.executable, "-P", "-m", "laion_zarr.conversion.run.workers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=() if lock is None else (lock,),
    )
    running.add(process)
    with process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        # A thread reads stderr while stdout is read here: a full pipe would block the worker.
        complaints: list[bytes] = []
        stderr = process.stderr
        drain = threading.Thread(target=lambda: complaints.append(stderr.read()))
        drain.start()
        try:
            with process.stdin:
                pickle.dump(task, process.stdin)
        except BrokenPipeError:
            pass  # the worker died; reported below
        outcome = _listen(process.stdout, progress)
        drain.join()
        status = process.wait()
    running.discard(process)
    if outcome is None:
        raise LaionZarrError(
            f"Its worker process died ({_reason(status)}). Run the same command again, with fewer "
            "--n-workers or less --memory if it ran out of memory. "
            f"{b''.join(complaints).decode(errors='replace')[-2000:]}".rstrip()
        )
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _reason(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"


def _listen(stream: IO[bytes], progress: Progress) -> Outcome | None:
    """Read a worker's messages: byte counts, then the outcome; None if the worker died before."""
    while True:
        try:
            message = pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):
            return None
        if not isinstance(message, int):
            return message
        progress(message)


def _main() -> None:
    """Worker process: read a task from stdin, write byte counts and the outcome to stdout."""
    # Text that a library prints goes to stderr: on stdout it would mix with the messages.
    messages = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    task: SeriesTask = pickle.load(sys.stdin.buffer)
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        if done >= _REPORT_EVERY:
            # Raises if the parent process has ended: then no process waits for the result either.
            pickle.dump(done, messages)
            messages.flush()
            done = 0

    outcome = guarded(lambda: task.convert(progress))
    pickle.dump(done, messages)
    pickle.dump(outcome, messages)
    messages.flush()


if __name__ == "__main__":
    _main()
