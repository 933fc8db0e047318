"""A store in a folder of a local disk, which never reads or writes anything outside of the folder.

Links that stay inside are followed by readers: stores are grown and thinned with them. Whoever
writes or removes goes through no link at all.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.buffer.cpu import buffer_prototype as BUFFERS
from zarr.storage import LocalStore

from laion_zarr.errors import StoreError

# A pipe would be waited for, a link would be followed before anybody has looked where it leads.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class _HeldFiles:
    """Files that threads have open together, each for as long as one of them needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, tuple[int, int]] = {}  # descriptor, and how many need it

    def take(self, paths: Sequence[str], opened: Callable[[str], int]) -> list[int] | None:
        """Descriptors of files, which are open until they are given back.

        None, and nothing is taken, where one cannot be opened, or too many would be open: whoever
        reads them one by one needs descriptors, too.
        """
        # A quarter of what a process may have open: 1,024 files on most systems, 256 on macOS.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4
        taken: list[str] = []
        found: list[int] | None = None
        with self._lock:
            try:
                for path in paths:
                    if path not in self._files and 0 <= most <= len(self._files):
                        return None
                    descriptor, n = self._files.get(path) or (opened(path), 0)
                    self._files[path] = descriptor, n + 1
                    taken.append(path)
                found = [self._files[path][0] for path in paths]
            except OSError:
                return None
            finally:
                if found is None:
                    self._release(taken)
        return found

    def give_back(self, paths: Sequence[str]) -> None:
        """Close the files that nobody needs any more."""
        with self._lock:
            self._release(paths)

    def _release(self, paths: Sequence[str]) -> None:
        for path in paths:
            descriptor, n = self._files.pop(path, (-1, 0))
            if n > 1:
                self._files[path] = descriptor, n - 1
            elif n == 1:
                with suppress(OSError):
                    os.close(descriptor)

    def close(self) -> None:
        """Close all files, whoever needs them."""
        self._lock = threading.Lock()  # a thread that is no more may have had the other
        files, self._files = self._files, {}
        for descriptor, _ in files.values():
            with suppress(OSError):
                os.close(descriptor)


_HELD = _HeldFiles()  # of all stores: a process has one limit


def _forget() -> None:
    """Close what a forked process has inherited: the threads that need it are not in it."""
    global _HELD
    inherited, _HELD = _HELD, _HeldFiles()
    inherited.close()


os.register_at_fork(after_in_child=_forget)


class DiskStore(LocalStore):
    """Zarr store in a folder, which refuses keys and links that lead out of it.

    Parameters
    ----------
    root : str or Path
        The folder; it may itself be a link.
    read_only : bool
        Whether to refuse changes.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._inside: set[str] = set()  # folders that were seen to lie in the store

    def __getstate__(self) -> Any:
        return {**self.__dict__, "_inside": set()}

    # -- where a key leads

    def _refuse(self, key: str, found: str) -> StoreError:
        return StoreError(
            f"{self.root / key} {found}: nothing outside of a store is read or written. If you "
            "trust it, put a copy of what it names in its place; else have the store again from "
            f"who made it. 'laion-zarr verify --store {self.root}' lists all that is wrong."
        )

    def _check_key(self, key: str) -> None:
        if key.startswith("/") or "\0" in key or (".." in key and ".." in key.split("/")):
            raise StoreError(f"{key[:200]!r} is no place in the store {self.root}.")

    def _leads_inside(self, path: str | Path) -> bool:
        real = f"{os.path.realpath(path)}/"
        return real.startswith(f"{os.path.realpath(self.root)}/")

    def _check_link(self, key: str) -> None:
        path = self.root / key
        if not self._leads_inside(path):
            raise self._refuse(key, f"is a link to {os.path.realpath(path)!r}, outside")

    def _enter(self, folder: str) -> None:
        """Raise StoreError if a folder leads out of the store; each is looked at once."""
        if not folder or folder in self._inside:
            return
        self._enter(folder.rpartition("/")[0])
        try:
            mode = os.lstat(f"{self.root}/{folder}").st_mode
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISLNK(mode):
            self._check_link(folder)
        self._inside.add(folder)

    def _descriptor(self, key: str) -> int:
        """Open a file of the store for reading; a link only if it leads to a file inside."""
        self._check_key(key)
        self._enter(key.rpartition("/")[0])
        path = f"{self.root}/{key}"
        try:
            found = os.open(path, _READ)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EMLINK):
                raise
            self._check_link(key)
            found = os.open(os.path.realpath(path), _READ)
        mode = os.fstat(found).st_mode
        if stat.S_ISREG(mode):
            return found
        os.close(found)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise self._refuse(key, "is no file but a pipe or a device, which is")

    def opened(self, key: str) -> FileIO:
        """Open a file of the store for reading, unbuffered."""
        return FileIO(self._descriptor(key), "rb")

    @contextmanager
    def held(self, keys: Sequence[str]) -> Iterator[list[int] | None]:
        """Keep files open for reading while the context lasts, and yield their descriptors.

        Threads that ask for the same file share it. None where a file cannot be opened, or too many
        would be open at once.
        """
        files, root = _HELD, f"{self.root}/"
        paths = [root + key for key in keys]
        found = files.take(paths, lambda path: self._descriptor(path.removeprefix(root)))
        try:
            yield found
        finally:
            if found is not None:
                files.give_back(paths)

    def place(self, key: str) -> Path:
        """Path of a key that is to be written or removed; no folder on the way is a link."""
        self._check_key(key)
        folder = key
        while folder := folder.rpartition("/")[0]:
            path = self.root / folder
            if path.is_symlink():
                raise StoreError(
                    f"{path} is a link to {os.path.realpath(path)!r}: nothing is written or "
                    "removed through a link. Remove the link, then run the same command."
                )
        return self.root / key

    # -- reading

    def _read(self, key: str, byte_range: ByteRequest | None) -> bytes:
        with os.fdopen(self._descriptor(key), "rb") as file:
            if byte_range is None:
                return file.read()
            size = os.fstat(file.fileno()).st_size
            start, end = 0, size
            if isinstance(byte_range, RangeByteRequest):
                start, end = byte_range.start, min(byte_range.end, size)
            elif isinstance(byte_range, OffsetByteRequest):
                start = byte_range.offset
            else:
                start = max(0, size - byte_range.suffix)
            if start >= end:
                return b""
            file.seek(start)
            return file.read(end - start)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read an object, or a range of its bytes; None if there is no such object."""
        if not self._is_open:
            with suppress(ValueError):  # another request has opened it meanwhile
                await self._open()
        try:
            data = await asyncio.to_thread(self._read, key, byte_range)
        except _ABSENT:
            return None
        return (prototype or BUFFERS).buffer.from_bytes(data)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read an object as `get` does, in this thread."""
        try:
            return (prototype or BUFFERS).buffer.from_bytes(self._read(key, byte_range))
        except _ABSENT:
            return None

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Read several objects, or ranges of their bytes."""
        return await asyncio.gather(*(self.get(key, prototype, its) for key, its in key_ranges))

    async def exists(self, key: str) -> bool:
        """Whether there is an object of this key."""
        try:
            await self.getsize(key)
        except _ABSENT:
            return False
        return True

    async def getsize(self, key: str) -> int:
        """Size of an object in bytes; raises FileNotFoundError if there is no such object."""
        with self.opened(key) as file:
            return os.fstat(file.fileno()).st_size

    # -- listing

    def _below(self, prefix: str) -> Iterator[str]:
        """Keys below a folder: of files, and of links but those to folders inside."""
        self._check_key(prefix)
        self._enter(prefix)
        for folder, names, files in os.walk(self.root / prefix):
            path = Path(folder)
            links = [n for n in names if (path / n).is_symlink() and not self._is_folder(path / n)]
            for name in (*files, *links):
                yield (path / name).relative_to(self.root).as_posix()

    def _is_folder(self, link: Path) -> bool:
        return self._leads_inside(link) and link.is_dir()

    async def list(self) -> AsyncIterator[str]:
        """Keys of all objects."""
        for key in self._below(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Keys of all objects below a prefix."""
        for key in self._below(prefix.rstrip("/")):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names of the objects and folders directly below a prefix."""
        self._check_key(prefix)
        self._enter(prefix.rstrip("/"))
        async for name in super().list_dir(prefix):
            yield name

    # -- changing

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        self.place(key)
        await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write an object, unless there is one."""
        self.place(key)
        await super().set_if_not_exists(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write an object, in this thread."""
        self.place(key)
        super().set_sync(key, value)

    async def delete(self, key: str) -> None:
        """Remove an object; of a link, the link alone."""
        if not self._unlinked(key):
            await super().delete(key)

    def delete_sync(self, key: str) -> None:
        """Remove an object, in this thread; of a link, the link alone."""
        if not self._unlinked(key):
            super().delete_sync(key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove all objects below a prefix; of a link, the link alone."""
        if not self._unlinked(prefix.rstrip("/")):
            await super().delete_dir(prefix)

    def _unlinked(self, key: str) -> bool:
        path = self.place(key)
        if not path.is_symlink():
            return False
        self._check_writable()
        path.unlink()
        return True
