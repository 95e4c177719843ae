"""``python -m rnn_imdb.cache``: the encoded reviews in the user's cache folder, listed or removed."""

import argparse
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from rnn_imdb.common.console import as_command, counted
from rnn_imdb.common.runs import folders_in
from rnn_imdb.data.cache import user_cache


def _encoded(folder: Path) -> str:
    """Source and sizes of what a folder holds, as far as it says."""
    try:
        key = json.loads((folder / "meta.json").read_text(encoding="utf-8"))["key"]
        return f"{key['source'][:40]}  {key['sequence_length']:,} tokens  {key['vocabulary_size']:,} words"
    except (OSError, ValueError, KeyError, TypeError):
        return "incomplete or damaged"


@as_command()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m rnn_imdb.cache", description="List the encoded reviews.")
    parser.add_argument("--clear", action="store_true", help="remove them; the next training encodes its reviews again")
    parser.add_argument("--folder", type=Path, help="where they lie, as data.cache_dir; default: the user's own")
    given = parser.parse_args(arguments)
    home = given.folder or user_cache()
    # nothing else that lies there is the package's
    found = sorted(
        each for each in folders_in(home) if re.fullmatch(r"[0-9a-f]{16}|\.[0-9a-f]{16}-[0-9a-f]{32}", each.name)
    )
    total = 0
    for folder in found:
        size = sum(file.stat().st_size for file in folder.iterdir())
        total += size
        print(f"{folder.name[:17]:17}  {size / 1e6:7.1f} MB  {_encoded(folder)}")
        if given.clear:
            shutil.rmtree(folder)
    print(f"{'removed ' if given.clear else ''}{counted(len(found), 'cache')}, {total / 1e6:.1f} MB, in {home}")


if __name__ == "__main__":
    main()
