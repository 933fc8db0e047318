"""A converter that is killed just before a chosen change to a folder.

Run as a script, this file is the driver: it imports the package once, then forks a converter for
each request.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from laion_zarr.conversion.cli import main

# What the commands import only when they run: once here, and not in each converter.
from laion_zarr.conversion.run import pipeline as pipeline
from laion_zarr.conversion.source import files as files


def serve() -> None:
    """Convert in a fork for each line of stdin; print its process id, then its exit code."""
    for line in sys.stdin:
        if not (pid := os.fork()):
            _convert_and_die(**json.loads(line))
        with contextlib.suppress(OSError):  # parent and child both do so; either may be first
            os.setpgid(pid, pid)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _convert_and_die(argv: list[str], root: str, log: str, at: int) -> None:
    os.setpgid(0, 0)
    with Path(os.devnull).open() as null, Path(log).open("w") as out:
        for number, file in enumerate((null, out, out)):
            os.dup2(file.fileno(), number)
    with Path(log).with_suffix(".changes").open("w") as changes:
        sys.addaudithook(Changes(root, changes, at))
        os._exit(main(argv))


class Changes:
    """Audit hook: notes each change to the files below a folder, and dies just before one.

    A file that a rename is about to put in its place is cut in half first: so it would be, had
    the process died while it wrote.
    """

    KINDS = ("os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir")

    def __init__(self, root: str, log: Any, at: int) -> None:
        self._root, self._log, self._at = root, log, at
        self._done = 0

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in self.KINDS:
            return
        path = Path(os.fsdecode(args[1] if event in ("os.rename", "os.link") else args[0]))
        # What rmtree removes has no folder in its name.
        if path.is_absolute() and not self._matters(event, path):
            return
        if self._done == self._at:
            source = Path(os.fsdecode(args[0]))
            if event == "os.rename" and source.stat().st_nlink == 1:  # else a link, made at once
                os.truncate(source, source.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        self._done += 1
        self._log.write(f"{event} {path}\n")
        self._log.flush()

    def _matters(self, event: str, path: Path) -> bool:
        if not path.is_relative_to(self._root):
            return False
        if event == "os.mkdir":
            return not path.exists()
        if event == "os.rmdir":
            return path.is_dir() and not any(path.iterdir())
        return event != "os.remove" or path.exists()


class Driver:
    """The test's end of `serve`."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, argv: list[str], root: Path, at: int = -1) -> int:
        """Start a converter, which dies just before change number `at` to `root`; its id."""
        assert self._process.stdin
        request = {"argv": argv, "root": str(root), "log": str(self.log), "at": at}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._answer())

    def wait(self) -> int:
        """Exit code of the converter, negative if a signal ended it."""
        return int(self._answer())

    def run(self, argv: list[str], root: Path, at: int = -1) -> int:
        """Start a converter and wait for its exit code."""
        self.start(argv, root, at)
        return self.wait()

    def changes(self) -> list[str]:
        """Changes of the last converter, in order."""
        return self.log.with_suffix(".changes").read_text().splitlines()

    def _answer(self) -> str:
        assert self._process.stdout
        answer = self._process.stdout.readline()
        assert answer, "the driver died"
        return answer

    def close(self) -> None:
        """End the driver."""
        with self._process:
            assert self._process.stdin
            self._process.stdin.close()


if __name__ == "__main__":
    serve()
