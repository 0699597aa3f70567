"""Files: written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apportion.core._errors import ApportionError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: first beside it under another name, then renamed."""
    if not path.parent.is_dir():
        raise ApportionError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}.")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes the file private; give it the rights that an ordinary new file would have.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file or folder beside `path`, for what is written bit by bit, that takes its place when it is finished."""
    if not path.parent.is_dir():
        raise ApportionError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        if temporary.is_dir() and path.exists():
            raise ApportionError(f"cannot write {str(path)!r}: it is there already; name a new folder.")
        os.replace(temporary, path)
