"""What an error of the operating system means, and what mends it: for source files and stores."""

from __future__ import annotations

import errno
import os

_GONE = "The file system that it lies on is not connected: mount it again"
_BUSY = "Another program has it in use: close it there"
_OPEN = "Allow more open files ('ulimit -n 4096'), or work with fewer --n-workers"
_DISK = "The file may be whole, but the disk, or the way to it, failed: check that"
_ROOM = "Free space there"
_RIGHTS = "Mend its permissions"
_MENDS = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), _RIGHTS),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _ROOM),
    **dict.fromkeys((errno.EIO, errno.ENXIO, errno.EREMOTEIO), _DISK),
    **dict.fromkeys((errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.EHOSTDOWN), _GONE),
    **dict.fromkeys((errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH), _GONE),
    **dict.fromkeys((errno.EAGAIN, errno.EBUSY, errno.ETXTBSY, errno.EDEADLK), _BUSY),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _OPEN),
    errno.EROFS: "The file system is read-only: name a place that can be written",
    errno.ENOMEM: "Free memory",
    errno.ENAMETOOLONG: "Name a place with a shorter path",
    errno.ELOOP: "Its links lead in a circle: mend them",
    errno.EISDIR: (
        "A folder lies where the file should: move it away, then run 'laion-zarr convert' again"
    ),
    errno.ENOTDIR: (
        "A file lies where a folder should: move it away, then run 'laion-zarr convert' again"
    ),
}

# What a file system without locks answers to flock. NFS takes a lock on a file that is open for
# writing alone, which a folder cannot be (EBADF, EISDIR).
NO_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL} | {
    *(errno.EBADF, errno.EISDIR, errno.ENOTTY, errno.EPERM)
}


def cause_of(error: OSError) -> str:
    """Cause of an error and what mends it, as two sentences without the last full stop."""
    what = error.strerror or str(error)
    if error.errno is not None and len(what) > len(os.strerror(error.errno)) + 40:
        what = os.strerror(error.errno)  # h5py puts a whole report there
    return f"{what}. {_MENDS.get(error.errno or 0, 'Mend that')}"
