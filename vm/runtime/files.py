"""Writing files so that a reader sees the old text or the new one, and never a part."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from vm.errors import fail


def write_file(path: str | Path, content: str | bytes) -> None:
    """Replaces the file in one step; its permissions stay. Raises `VmError` E0802."""
    target = Path(os.path.realpath(path))
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise fail(
            "E0802", f"cannot write {path}: {error.strerror}", None,
            fix="name a file in a folder that is there and may be written",
        ) from error  # fmt: skip


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
