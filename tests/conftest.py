"""What the tests share: checked shapes, a small archive of the official layout, and the official one where it is."""

import os

# small tensors gain nothing from threads, which wait for each other when the machine is busy; the commands inherit it
os.environ["OMP_NUM_THREADS"] = "1"
# as the commands do, in a notebook's environment too
os.environ["MPLBACKEND"] = "agg"

import copy
import io
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook
from omegaconf import DictConfig

# every annotated tensor function of the package checks its shapes while the tests run
# (but for the doors of the scans, which do so themselves, and the kernels, which Triton reads from the file)
SCANS = [f"scan.{name}" for name in ("reference", "bptt", "fused", "cudnn")]
MODEL = [f"model.{name}" for name in ("cell", "readout", "classifier", "rnn", "baselines")]
INSIGHT = [f"insight.{name}" for name in ("explanation", "forgetting", "quality", "states")]
TENSOR_MODULES = [f"rnn_imdb.{name}" for name in (*SCANS, *MODEL, *INSIGHT)]
_hook = install_import_hook(TENSOR_MODULES, "beartype.beartype")

from rnn_imdb.config.checks import check  # noqa: E402 after the hook
from rnn_imdb.config.compose import conf_root, register  # noqa: E402 after the hook
from rnn_imdb.model import make_classifier  # noqa: E402
from rnn_imdb.model.embedding import frequent_pairs  # noqa: E402
from rnn_imdb.scan import native  # noqa: E402

# nothing here is a matter of time: machines are shared
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

REVIEWS_PER_CLASS = 40
GOOD = ("wonderful", "moving", "brilliant", "superb", "touching")
BAD = ("awful", "boring", "terrible", "dull", "wasted")
NEUTRAL = ("the", "film", "plot", "actor", "scene", "music", "story", "and", "with", "of", "a", "this")


def write_archive(path: Path, members: dict[str, bytes]) -> Path:
    """A .tar.gz with ``members``."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def small_reviews(per_class: int = REVIEWS_PER_CLASS) -> dict[str, bytes]:
    """Members of a small archive: reviews whose class a handful of words give away."""
    generator = random.Random(0)
    members = {"aclImdb/README": b"not a review"}
    for half in ("train", "test"):
        for folder, telling, rating in (("neg", BAD, 2), ("pos", GOOD, 9)):
            for number in range(per_class):
                words = generator.choices(NEUTRAL, k=generator.randint(5, 30)) + generator.choices(telling, k=4)
                generator.shuffle(words)
                text = f"{' '.join(words)}. Number {half} {number}!"
                members[f"aclImdb/{half}/{folder}/{number}_{rating}.txt"] = text.encode()
    return members


# sizes of a small classifier: words, tokens in a review, components of a word and of a state
V, T, E, H = 50, 12, 5, 7


def token_rows(batch: int = 4, *, padding: int = 0, side: str = "pre") -> torch.Tensor:
    """Reviews (batch, T) of the small classifier, with ``padding`` zeros on one side."""
    tokens = torch.randint(2, V, (batch, T - padding), generator=torch.Generator().manual_seed(batch))
    zeros = torch.zeros(batch, padding, dtype=torch.long)
    return torch.cat([zeros, tokens] if side == "pre" else [tokens, zeros], dim=1)


def small_classifier(encoder: str = "rnn", **options: Any) -> Any:
    """A classifier drawn alike every time, of the type that ``encoder`` names."""
    torch.manual_seed(0)
    sizes = {"vocabulary_size": V, "sequence_length": T, "embedding_dim": E, "state_dim": H}
    model = make_classifier(encoder, **(sizes | options))
    model.pairs = frequent_pairs(token_rows(20).numpy(), options.get("bigrams", 0))
    return model


def name_of(options: Any) -> str:
    """The name of a test's parameter."""
    return " ".join(f"{key}={value}" for key, value in options.items()) if isinstance(options, dict) else str(options)


@cache
def _composed(name: str, groups: tuple[str, ...]) -> DictConfig:
    register()
    with initialize_config_dir(str(conf_root(name)), version_base="1.3"):
        return hydra_compose(name, overrides=list(groups))


def compose(name: str, *overrides: str) -> DictConfig:
    """The checked configuration that a command would get."""
    values, groups = [], []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        of_group = (conf_root(name) / override.key_or_group).is_dir() or override.key_or_group.startswith("hydra")
        files = of_group or override.package or override.is_sweep_override()
        (groups if files else values).append(override)
    # Hydra takes a third of a second to compose the files, and puts single values into the result as here
    composed = copy.deepcopy(_composed(name, tuple(str(override.input_line) for override in groups)))
    ConfigLoaderImpl._apply_overrides_to_config(values, composed)
    check(composed)
    return composed


def forget_later_options(saved: dict[str, Any]) -> None:
    """Make a configuration one of an earlier version: without what came later, and with what is gone."""
    for group, names in {
        "data": ("first_words", "last_words", "split_by"),
        "model": (
            *(
                "encoder",
                "activation",
                "init",
                "spectral_radius",
                "kernel_size",
                "bidirectional",
                "recurrent",
                "bigrams",
            ),
            *("word_dropout", "embedding_dropout", "head_dropout"),
        ),
        "optimizer": ("schedule", "label_smoothing", "target_replication"),
    }.items():
        for name in names:
            del saved[group][name]
    saved["model"]["bigram_buckets"] = 0


@pytest.fixture(scope="session")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the official layout with 4 x 40 short reviews."""
    return write_archive(tmp_path_factory.mktemp("archive") / "aclImdb_small.tar.gz", small_reviews())


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of encoded reviews for the whole test session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def small_data(small_archive: Path, cache_dir: Path) -> dict[str, Any]:
    """Settings of the group ``data`` for the small archive."""
    return {
        "source": "aclimdb",
        "root": str(small_archive),
        "reviews_per_class": REVIEWS_PER_CLASS,
        "cache_dir": str(cache_dir),
        "sequence_length": 30,
        "batch_size": 16,
    }


@pytest.fixture(scope="session")
def small_overrides(small_data: dict[str, Any]) -> list[str]:
    """Command-line overrides for a training that takes a second."""
    data = [f"data.{name}={value}" for name, value in small_data.items() if name != "source"]
    return ["data=aclimdb", *data, "trainer.accelerator=cpu"]


@pytest.fixture(scope="session")
def trained(small_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, whose model has learned."""
    # Lightning takes seconds to import, and most tests do without
    from rnn_imdb.training.run import train

    folder = tmp_path_factory.mktemp("runs") / "trained"
    learning = ("model.readout=mean", "model.mask_padding=true", "optimizer.learning_rate=0.01", "trainer.max_epochs=6")
    train(compose("train", *small_overrides, *learning), folder)
    return folder


@pytest.fixture
def places(small_archive: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose reviews are the small archive: no checkpoint says where reviews and cache are."""
    monkeypatch.setenv("IMDB_ROOT", str(small_archive))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_dir))


@pytest.fixture(scope="session")
def official_root() -> str:
    """The official archive, where IMDB_ROOT names a local copy."""
    root = os.environ.get("IMDB_ROOT")
    if not root:
        pytest.skip("IMDB_ROOT names no local copy of the official archive")
    return root


@pytest.fixture(scope="session")
def forking_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A python that starts the package's commands without the seconds that imports take; see forked.py."""
    folder = tmp_path_factory.mktemp("python")
    socket, client, program = folder / "socket", folder / "python", Path(__file__).with_name("forked.py")
    client.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {program} ask {socket} {sys.executable} "$@"\n')
    client.chmod(0o755)
    with subprocess.Popen([sys.executable, str(program), "serve", str(socket)]) as server:
        while not socket.exists():
            assert server.poll() is None
            time.sleep(0.05)
        yield str(client)
        server.kill()


@pytest.fixture
def forked(forking_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the package's commands start fast."""
    monkeypatch.setattr(sys, "executable", forking_python)


@pytest.fixture
def command(tmp_path: Path, forked: None) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run ``python -m rnn_imdb.NAME ARGUMENTS`` as a user would, in an empty folder."""

    def run(name: str, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        defaults: dict[str, Any] = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 240}
        return subprocess.run([sys.executable, "-m", f"rnn_imdb.{name}", *arguments], **(defaults | options))

    return run


def interrupt_at(patch: pytest.MonkeyPatch, batch: int) -> None:
    """Ctrl-C before the ``batch``-th training batch of the run."""
    # Lightning takes seconds to import, and most tests do without
    from rnn_imdb.common.interrupts import Interrupted
    from rnn_imdb.data.module import BatchSampler

    count = 0
    iterate = BatchSampler.__iter__

    def counting(self: BatchSampler) -> Iterator[np.ndarray]:
        nonlocal count
        for positions in iterate(self):
            count += self.seed is not None
            if count == batch:
                raise Interrupted(signal.SIGINT)
            yield positions

    patch.setattr(BatchSampler, "__iter__", counting)


Result = TypeVar("Result")


def with_threads(count: int, function: Callable[[], Result]) -> Result:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return function()
    finally:
        torch.set_num_threads(before)


def runnable() -> list[str]:
    """Instruction sets that were built and that this processor has."""
    capability = torch.backends.cpu.get_cpu_capability()
    return [
        name
        for name in native.INSTRUCTION_SETS.get(capability, ("baseline",))
        if find_spec(f"rnn_imdb.scan._cpu_{name}")
    ]


@pytest.fixture(params=runnable())
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    library = native.load(request.param)
    monkeypatch.setattr(native, "_kernel", lambda: (library, request.param))
    return request.param
