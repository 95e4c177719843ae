"""The same weights from the same seed, for every number of threads and on every CPU with AVX2 or better."""

import hashlib
import json
import os
import subprocess
import sys
from functools import cache

import pytest
import torch

from rnn_imdb.model.readout import READOUTS
from rnn_imdb.scan import native

# of weights and losses after a few steps, for each readout: any change of a bit shows here. A change that means to
# change bits writes the new ones down, from `python tests/test_bits.py`.
DIGESTS = {
    "last": "a2e802c12208bd2e",
    "all": "6ab0381e30c7cb79",
    "mean": "09bd43959c729ac5",
    "max": "009218e48afb6bcb",
    "mean_max": "bea8162e947851e5",
    "attention": "2e6d74408be56447",
    "last, 25 reviews": "ba5ff165997a4983",
}
# threads, torch's instruction set (or the best of this CPU), and MKL's, which has other code for other makes of CPUs
SETTINGS = [("1", "", ""), ("2", "", "AVX2"), ("3", "avx2", "AVX512"), ("4", "avx2", "SSE4_2")]


def train_a_little(readout: str, batch: int = 32) -> str:
    """16 hex digits that tell weights and losses after a small training from others."""
    import numpy as np

    from rnn_imdb.model import ReviewClassifier
    from rnn_imdb.training.module import mean_loss
    from rnn_imdb.training.optimizers import RMSprop

    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    classifier = ReviewClassifier(readout=readout)
    optimizer = RMSprop(classifier.parameters(), lr=0.01, alpha=0.9, eps=1e-7)
    generator = np.random.default_rng(0)
    found = hashlib.sha256()
    for _ in range(8):
        tokens = generator.integers(2, 10_000, (batch, 500))
        # padded in front, as reviews are
        tokens[np.arange(500) < generator.integers(0, 450, (batch, 1))] = 0
        labels = torch.from_numpy(generator.integers(0, 2, batch)).float()
        optimizer.zero_grad()
        loss = mean_loss(classifier(torch.from_numpy(tokens)), labels)
        loss.backward()
        optimizer.step()
        found.update(loss.detach().numpy().tobytes())
    for parameter in classifier.parameters():
        found.update(parameter.detach().numpy().tobytes())
    return found.hexdigest()[:16]


@cache
def digests(threads: str, capability: str, mkl: str) -> dict[str, str]:
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    chosen = {"ATEN_CPU_CAPABILITY": capability, "MKL_ENABLE_INSTRUCTIONS": mkl}
    environment |= {name: value for name, value in chosen.items() if value}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(native.instruction_set() in (None, "baseline"), reason="needs the C kernel with AVX2 or better")
@pytest.mark.parametrize("setting", SETTINGS, ids="-".join)
def test_every_readout_is_trained_to_the_same_bits(setting: tuple[str, str, str]) -> None:
    found = digests(*setting)
    assert found == digests(*SETTINGS[0])
    # other versions of torch may draw or round otherwise
    if torch.__version__.startswith(("2.13.", "2.15.")):
        assert found == DIGESTS


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    found = {readout: train_a_little(readout) for readout in READOUTS}
    # no multiple of the vectors' width, which torch computes the end of in another way
    print(json.dumps(found | {"last, 25 reviews": train_a_little("last", 25)}, indent=4))
