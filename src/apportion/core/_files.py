"""Files that are written completely or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apportion.core._errors import ApportionError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file completely or not at all: first beside it under another name, then renamed."""
    _check_folder(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes the file private; give it the permissions of an ordinary new file.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise ApportionError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}.")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary file or folder beside `path`, which is moved there at the end."""
    _check_folder(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        if temporary.is_dir() and path.exists():
            raise ApportionError(f"cannot write {str(path)!r}: it is there already; name a new folder.")
        os.replace(temporary, path)
