"""``python -m rnn_imdb``, or ``rnn-imdb``: the commands, by name."""

import os
import runpy
import sys
from importlib import import_module
from pathlib import Path

from rnn_imdb import __version__
from rnn_imdb.common.console import as_command
from rnn_imdb.common.errors import fail

COMMANDS = {
    "train": "train a model, or with -m a sweep of them",
    "evaluate": "score a checkpoint on test reviews, or another split",
    "predict": "say whether reviews are positive, and why",
    "export": "write a checkpoint's classifier for ONNX or torch.export",
    "report": "tables and plots of a sweep",
    "benchmark": "time the scan, or a training epoch, beside others",
    "cache": "list or remove what was encoded",
}
USAGE = f"""\
usage: rnn-imdb COMMAND ...        the same as  python -m rnn_imdb.COMMAND ...

A hand-built tanh RNN that classifies IMDB reviews, version {__version__}.

{"".join(f"  {name:<11}{meaning}{chr(10)}" for name, meaning in COMMANDS.items())}
Each shows its options with --help. Examples:

  rnn-imdb train model.readout=all seed=1
  eval "$(rnn-imdb -sc install=bash)"        # the tab key completes rnn-imdb
  rnn-imdb predict latest 'The acting is excellent and the story moved me.'"""


def complete() -> None:
    """Answer ``rnn-imdb -sc``, by which a shell asks Hydra for completions: of commands here, of options by theirs."""
    words = os.environ.get("COMP_LINE", "rnn-imdb train ").split(" ", 2)
    if len(words) < 3:
        print(*COMMANDS)
    elif words[1] in ("train", "evaluate", "benchmark"):
        os.environ["COMP_LINE"] = f"{words[0]} {words[2]}"
        import_module(f"rnn_imdb.{words[1]}").main()


@as_command()
def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "-sc":
        complete()
        return
    if name in ("-h", "--help"):
        print(USAGE)
        return
    if name not in COMMANDS:
        fail(f"a command must be one of {', '.join(COMMANDS)}, got {name!r}: see rnn-imdb --help", 2)
    del sys.argv[1]
    # as `python -m` does, for classes of one's own
    sys.path.append(str(Path.cwd()))
    runpy.run_module(f"rnn_imdb.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
