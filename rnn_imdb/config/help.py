"""The text of ``--help``: the configuration files themselves, whose comments say what each value means."""

import re
import textwrap
from pathlib import Path

import yaml

USAGE = {
    "train": """\
usage: python -m rnn_imdb.train [KEY=VALUE ...] [-m KEY=VALUE,VALUE ...]

Train a tanh RNN on IMDB reviews, then score the test reviews with the epoch
that validated best. Examples:

  python -m rnn_imdb.train model.readout=all trainer.max_epochs=5
  python -m rnn_imdb.train experiment=lecture_all seed=1
  python -m rnn_imdb.train -m model.state_dim=16,32,64 seed=0,1,2
""",
    "benchmark": """\
usage: python -m rnn_imdb.benchmark [KEY=VALUE ...]

Check every backend of the scan, then time it beside torch.nn.RNN; or time one
epoch beside the same module with torch.nn.RNN, and Keras. Examples:

  python -m rnn_imdb.benchmark batch_sizes=[32] state_dims=[32,64]
  python -m rnn_imdb.benchmark epoch=true
""",
    "evaluate": """\
usage: python -m rnn_imdb.evaluate [checkpoint=]RUN [KEY=VALUE ...]

Score a checkpoint on test or validation reviews, none of which it may have been
trained on, or, with split=train, on those of its training. Examples:

  python -m rnn_imdb.evaluate latest
  python -m rnn_imdb.evaluate checkpoint=RUN/checkpoints/last.ckpt \\
      data=aclimdb data.root=aclImdb_v1.tar.gz
""",
}


def help_text(root: Path, name: str) -> str:
    """Usage, options and their defaults of the command whose configuration is ``root``/``name``.yaml."""
    file = root / f"{name}.yaml"
    parts = [USAGE[name], "Options and their defaults:", "", _options(file)]
    for entry in yaml.safe_load(file.read_text(encoding="utf-8"))["defaults"]:
        if not isinstance(entry, dict):
            continue
        group, option = next(iter(entry.items()))
        if group.startswith("override "):
            continue
        parts += ["", f"{group}={option or ''}"]
        for path in sorted((root / group).glob("*.yaml")):
            line = f"# {path.stem}: {_summary(path)}"
            parts.append(textwrap.fill(line, 80, initial_indent="  ", subsequent_indent="  #   "))
        if option is not None:
            chosen = root / group / f"{option}.yaml"
            # a file may start from one in base/
            bases = re.findall(r"^ *- /(base/\w+)", chosen.read_text(encoding="utf-8"), re.MULTILINE)
            files = (chosen, *(root / f"{base}.yaml" for base in bases))
            parts.append(textwrap.indent("\n".join(map(_options, files)), "  "))
    parts += ["", "More of Hydra (sweeps, tab completion, printing a configuration): --hydra-help"]
    return "\n".join(parts)


def _summary(path: Path) -> str:
    """The comment that opens a file."""
    return next(
        line.lstrip("# ").rstrip(".")
        for line in path.read_text(encoding="utf-8").splitlines()
        if not line.startswith("# @package")
    )


def _options(path: Path) -> str:
    """A file without its opening comment and what concerns only Hydra."""
    kept, skipping = [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith((" ", "-")):
            skipping = line.startswith(("defaults:", "hydra:", "#"))
        if not skipping:
            kept.append(line)
    return "\n".join(kept).strip("\n")
