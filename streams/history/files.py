"""Lists of input files, and how files are written."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Have a file written, and appear under its name only when it is whole."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def listed(paths: Path | Sequence[Path]) -> Sequence[Path]:
    """Return one path, or several, as several."""
    return [paths] if isinstance(paths, Path) else paths
