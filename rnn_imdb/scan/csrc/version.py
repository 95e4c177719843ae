"""The version of the kernels, which the build compiles into them and native.py expects of them."""

import hashlib
from pathlib import Path


def version(folder: Path) -> int:
    """A digest of all sources and flags, which are the files in ``folder``."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".c", ".h", ".py")]
    return int(hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:15], 16)
