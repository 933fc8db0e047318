"""Sessions in processes of their own.

Each session gets a fresh interpreter: its memory is returned when it ends, a crash is its own,
and a script that calls `convert` needs no ``if __name__ == "__main__"``.
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
from laion_zarr.conversion.parts.session import Progress, SessionTask, convert_session
from laion_zarr.errors import LaionZarrError
from laion_zarr.store.parts import Part

_REPORT_EVERY = 32 << 20
Outcome = Part | Exception


def run(
    tasks: Sequence[SessionTask], n_workers: int, progress: Progress, lock: int | None
) -> Iterator[tuple[SessionTask, Outcome]]:
    """Convert sessions, `n_workers` at a time; yields each with its part or its error as it ends.

    `lock` is a file descriptor that the workers inherit, so that the store stays locked while one
    of them lives, even if this process is killed.
    """
    if n_workers == 1:
        for task in tasks:
            yield task, guarded(partial(convert_session, task, progress))
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
    """What `work` returns, or what it fails with if that fails one session alone."""
    try:
        return work()
    except PROBLEMS as error:
        _let_go(error)
        return error


def _let_go(error: BaseException | None) -> None:
    """Clear what a traceback keeps alive: a session's betas, or its scratch file."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _in_process(
    task: SessionTask,
    progress: Progress,
    lock: int | None,
    running: set[subprocess.Popen[bytes]],
) -> Part:
    process = subprocess.Popen(
        # -P: the package that is installed, not whatever lies in the current folder.
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
        # Drained at the same time as stdout: a full pipe would stop the worker.
        complaints: list[bytes] = []
        stderr = process.stderr
        drain = threading.Thread(target=lambda: complaints.append(stderr.read()))
        drain.start()
        try:
            with process.stdin:
                pickle.dump(task, process.stdin)
        except BrokenPipeError:
            pass  # it died; said below
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
    """Read a worker's messages: bytes done, then its outcome; None if it died before that."""
    while True:
        try:
            message = pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):
            return None
        if not isinstance(message, int):
            return message
        progress(message)


def _main() -> None:
    """Worker process: a task on stdin, progress and the outcome on stdout."""
    # Whatever a library prints must not mix with the messages.
    messages = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    task: SessionTask = pickle.load(sys.stdin.buffer)
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        if done >= _REPORT_EVERY:
            # Fails when the parent is gone: then nobody needs the result either.
            pickle.dump(done, messages)
            messages.flush()
            done = 0

    outcome = guarded(lambda: convert_session(task, progress))
    pickle.dump(done, messages)
    pickle.dump(outcome, messages)
    messages.flush()


if __name__ == "__main__":
    _main()
