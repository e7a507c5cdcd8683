"""Compiled programs on disk: one file per entry, at most one compilation each, never a bad load.

An entry is a single file that holds its own description and checksum, written under another name
and renamed, so a reader sees all of it or nothing and needs no lock. Who compiles holds an advisory
lock on a file named after the key; the system lets go of it when its owner dies.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without flock: entries stay whole, but may be compiled twice
    fcntl = None  # type: ignore[assignment]

MAGIC = b"VMCACHE1"
SIZE_LIMIT = 2 << 30
"""Bytes of entries kept where VM_CACHE_SIZE does not say otherwise."""

_LENGTH = struct.Struct("<I")
_CHECKSUM = 32
_ABANDONED = 3600.0
"""Seconds after which a temporary file cannot belong to a living writer."""
_FRESH = 600.0
"""Seconds for which a use is not written down again."""


@dataclass(frozen=True)
class Entry:
    """What `compile` gave: `payload` (a cubin, a shared object) and JSON-able `metadata`."""

    payload: bytes
    metadata: Mapping[str, object]


@dataclass(frozen=True)
class Listed:
    """An entry as `list` shows it: `used` is the time of its last use, seconds since 1970."""

    key: str
    size: int
    used: float
    metadata: Mapping[str, object] | None
    """None where the file is damaged."""


def entry_key(
    program: str, target: str, options: Sequence[str], versions: Mapping[str, str]
) -> str:
    """The name of an entry: SHA-256 over the canonical text of the program and all that decides
    what it compiles to; `versions` names the toolchain and the packages that emit."""
    parts = {
        "program": program,
        "target": target,
        "options": list(options),
        "versions": dict(versions),
    }
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def default_directory() -> Path:
    """VM_CACHE_DIR, or the folder for caches that this system gives a user."""
    chosen = os.environ.get("VM_CACHE_DIR")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("vm", appauthor=False))


def default_size_limit() -> int:
    """VM_CACHE_SIZE in bytes, or `SIZE_LIMIT`."""
    return int(os.environ.get("VM_CACHE_SIZE") or SIZE_LIMIT)


class Cache:
    """A directory of entries, shared by any number of processes."""

    def __init__(self, directory: Path | None = None, size_limit: int | None = None) -> None:
        self.directory = default_directory() if directory is None else Path(directory)
        self.size_limit = default_size_limit() if size_limit is None else size_limit

    def get(self, key: str) -> Entry | None:
        """The entry, or None where there is none that is whole. Takes no lock, changes no entry."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:  # absent, just evicted, or a network file system between two states
            return None
        entry = _decode(key, data)
        if entry is not None:
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _FRESH:
                    os.utime(path)  # access times are often not kept: the modification time is
        return entry

    def get_or_compile(self, key: str, compile: Callable[[], Entry]) -> Entry:
        """The entry, compiled if need be: by one process (and thread) at a time, so that those who
        come meanwhile wait and load. A damaged file is kept as `<key>.damaged`. What `compile`
        raises is passed on, and the next in line tries. A directory that cannot be written to
        costs a warning and the reuse, not the result."""
        entry = self.get(key)
        if entry is not None:
            return entry
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = self._lock(key, wait=True)
        except OSError as error:
            self._warn(error)
            return compile()
        try:
            entry = self.get(key)
            if entry is None:
                self._set_aside(key)
                entry = compile()
                try:
                    self._write(key, entry)
                except OSError as error:
                    self._warn(error)
        finally:
            self._unlock(key, lock)
        return entry

    def list(self) -> list[Listed]:
        """All entries, least recently used first."""
        listed = []
        for path, size, used in self._files():
            try:
                entry = _decode(path.stem, path.read_bytes())
            except OSError:
                continue
            metadata = None if entry is None else entry.metadata
            listed.append(Listed(path.stem, size, used, metadata))
        return listed

    def verify(self) -> list[str]:
        """Sets damaged entries aside and returns their keys; one that is being written is left."""
        damaged = [each.key for each in self.list() if each.metadata is None]
        for key in damaged:
            lock = self._lock(key, wait=False)
            if lock is not None:
                try:
                    if self.get(key) is None:
                        self._set_aside(key)
                finally:
                    self._unlock(key, lock)
        return damaged

    def clear(self) -> int:
        """Removes all entries, damaged ones too; returns the bytes freed. Entries in the making are
        not disturbed: they appear afterwards."""
        freed = 0
        for path in self._named(".entry", ".damaged"):
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                path.unlink()
                freed += size
        self._sweep()
        return freed

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(size for _, size, _ in self._files())

    def _path(self, key: str) -> Path:
        return self.directory / f"{key}.entry"

    def _write(self, key: str, entry: Entry) -> None:
        data = _encode(key, entry)
        path = self._path(key)
        # the random part: process numbers repeat across machines that share a directory
        temporary = self.directory / f"{key}.{os.getpid()}.{os.urandom(4).hex()}.temporary"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # else a crash may leave the new name with old contents
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        self._evict(keep=path)

    def _evict(self, keep: Path) -> None:
        """Removes the least recently used entries until the rest fits the limit."""
        files = self._files()
        total = sum(size for _, size, _ in files)
        if total <= self.size_limit:
            return
        for path, size, _ in files:
            if path != keep and total > self.size_limit:
                with contextlib.suppress(OSError):
                    path.unlink()
                    total -= size
        self._sweep()

    def _sweep(self) -> None:
        """Removes what killed processes left: old temporary files, and locks that nobody holds."""
        for path in self._named(".temporary"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink()
        for path in self._named(".lock"):
            with contextlib.suppress(OSError):
                lock = self._lock(path.stem, wait=False)
                if lock is not None:
                    self._unlock(path.stem, lock)

    def _set_aside(self, key: str) -> None:
        path = self._path(key)
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, path.with_suffix(".damaged"))

    def _files(self) -> list[tuple[Path, int, float]]:
        """Entries with size and time of last use, oldest first."""
        found = []
        for path in self._named(".entry"):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((path, status.st_size, status.st_mtime))
        return sorted(found, key=lambda each: (each[2], each[0]))

    def _named(self, *suffixes: str) -> Iterator[Path]:
        try:
            names = os.listdir(self.directory)
        except OSError:
            names = []
        return (self.directory / name for name in names if name.endswith(suffixes))

    def _lock(self, key: str, wait: bool) -> int | None:
        """A descriptor that holds the lock of `key`; None where another holds it and `wait` is off.

        The file is removed on release, so one that was waited for may no longer be the file of that
        name: then whoever comes later would lock another, and the wait starts again.
        """
        path = self.directory / f"{key}.lock"
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                if fcntl is not None:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                return None
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _unlock(self, key: str, descriptor: int | None) -> None:
        if descriptor is None:
            return
        with contextlib.suppress(OSError):
            (self.directory / f"{key}.lock").unlink()
        os.close(descriptor)

    def _warn(self, error: OSError) -> None:
        warnings.warn(
            f"compiled without the cache in {self.directory}: {error}; "
            "set VM_CACHE_DIR to a directory that can be written to",
            RuntimeWarning,
            stacklevel=3,
        )


def _encode(key: str, entry: Entry) -> bytes:
    header = {"key": key, "length": len(entry.payload), "metadata": dict(entry.metadata)}
    text = json.dumps(header, sort_keys=True).encode()
    body = MAGIC + _LENGTH.pack(len(text)) + text + entry.payload
    return body + hashlib.sha256(body).digest()


def _decode(key: str, data: bytes) -> Entry | None:
    """The entry in `data`, or None where it is not one, not whole, or another's."""
    start = len(MAGIC) + _LENGTH.size
    body, checksum = data[:-_CHECKSUM], data[-_CHECKSUM:]
    if len(body) < start or hashlib.sha256(body).digest() != checksum:
        return None
    if not body.startswith(MAGIC):
        return None
    (length,) = _LENGTH.unpack_from(body, len(MAGIC))
    header = json.loads(body[start : start + length])
    if header["key"] != key:
        return None
    return Entry(body[start + length :], header["metadata"])
