"""How a file that somebody gives is opened, or replaced: a file, and nothing that only looks like one.

A pipe would let its reader wait for ever, and /dev/zero never ends; what is larger than such a file ever is would fill
the memory.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader, FileIO
from pathlib import Path

from acmix_bench.errors import UserError


def opened(path: Path | str) -> BufferedReader:
    """Open a file to be read.

    Raises:
        OSError: where it cannot be opened, or is a folder, a pipe, a socket or a device.
    """
    return open(_descriptor(path, os.O_RDONLY), "rb")


def opened_to_append(path: Path | str) -> FileIO:
    """Open a file to be read and appended to, made where it is not there; unbuffered, so that closing never writes.

    Raises:
        OSError: as `opened` does.
    """
    return open(_descriptor(path, os.O_RDWR | os.O_APPEND | os.O_CREAT), "a+b", buffering=0)


def _descriptor(path: Path | str, flags: int) -> int:
    try:
        number = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except ValueError as error:  # a path that holds a NUL
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path)) from error
    mode = os.fstat(number).st_mode
    if stat.S_ISREG(mode):
        return number
    os.close(number)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "a pipe or a device, and no file", str(path))


def is_file(path: Path | str) -> bool:
    """Whether there is a file; False too of what can be no path, such as one that is too long."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def content_of(path: Path | str, *, most: int) -> bytes:
    """The bytes of a file, of which there are no more than `most`.

    Raises:
        OSError: where it cannot be read, is no file, or holds more.
    """
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"larger than {most // 2**20} MiB", str(path))
        return file.read(most)


def replace(path: Path, content: str | bytes) -> None:
    """Make a file of a text or of bytes, or replace the one that is there: it is never half of it.

    Raises:
        UserError: where it cannot be written, or something else than a file stands there.
    """
    try:
        whole = path.resolve()  # where it is a link, what it leads to
        if whole.exists() and not whole.is_file():
            raise UserError(f"{path}: is no file, and cannot be replaced by one")
        unfinished = whole.with_name(f".{whole.name}.unfinished")
        try:
            unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
            unfinished.replace(whole)
        finally:
            unfinished.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})") from error
