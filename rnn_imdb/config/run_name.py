"""What a run's folder is called: its time, and what its command line changed. Imports nothing heavy."""

import re
import time
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

from rnn_imdb.common.files import LOCK
from rnn_imdb.common.runs import RUNS
from rnn_imdb.config.identity import NO_PART, WITHOUT_EFFECT


def run_folder(overrides: Sequence[str]) -> str:
    """As ``experiments/runs/2026-11-25_14-03-07_readout-all_seed-1``."""
    values = {key.lstrip("+~"): value or "off" for key, _, value in (text.partition("=") for text in overrides)}
    changed = [key for key in values if key.partition(".")[0] not in NO_PART and key not in WITHOUT_EFFECT]
    last = [key.rpartition(".")[2] for key in changed]
    names = {key: name if last.count(name) == 1 else key for key, name in zip(changed, last, strict=True)}
    plain = {key: re.sub(r"[^\w.+-]+", "-", values[key].strip("[]{}()'\"")) for key in changed}
    words = [f"{name.replace('/', '-')}-{plain[key]}" for key, name in names.items()]
    return str(RUNS / "_".join([time.strftime("%Y-%m-%d_%H-%M-%S"), *words])[:80])


def claimed(folder: Path) -> Path:
    """``folder``, or with a number behind its name where it is that of another run of this second and these options."""
    numbered = (folder.with_name(f"{folder.name}_{number}") for number in count(2))
    return next(path for path in chain([folder], numbered) if _claim(path))


def _claim(folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # of several processes, one makes it
        (folder / LOCK).touch(exist_ok=False)
        return True
    except FileExistsError:
        return False
