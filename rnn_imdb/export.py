"""``python -m rnn_imdb.export``: the classifier of a checkpoint as a file that other programs run."""

import argparse
import io
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from rnn_imdb.common.console import as_command, waiting
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import write_atomically
from rnn_imdb.common.runs import find_checkpoint


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rnn_imdb.export",
        description="Write a trained classifier as a file for ONNX or torch.export: tokens (any number of reviews, the "
        "run's sequence length), int64, to logits. The vocabulary, a word a line, goes with it.",
        epilog="Examples:\n  python -m rnn_imdb.export latest model.onnx\n  python -m rnn_imdb.export RUN model.pt2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="RUN", help="a run (its best checkpoint) or a checkpoint, as in predict")
    parser.add_argument("file", type=Path, help="what to write: NAME.onnx, or NAME.pt2 for torch.export.load")
    return parser


@as_command()
def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    if given.file.suffix not in (".onnx", ".pt2"):
        raise UserError(f"the file must end in .onnx or .pt2, got {given.file}: name another", exit_code=2)
    if given.file.suffix == ".onnx" and not (find_spec("onnx") and find_spec("onnxscript")):
        raise UserError(".onnx needs onnx and onnxscript: pip install 'rnn_imdb[export]', or name a .pt2 file")
    path = find_checkpoint(given.checkpoint)
    with waiting("importing torch"):
        import torch

        from rnn_imdb.training import environment
        from rnn_imdb.training.checkpoint import open_checkpoint

    environment.start(seed=0)
    checkpoint = open_checkpoint(path)
    classifier, words = checkpoint.classifier().eval(), "\n".join(checkpoint.vocabulary.words)
    if given.file.suffix == ".onnx" and classifier.bigrams is not None:
        raise UserError("ONNX has no search in a sorted list, which model.bigrams needs: name a .pt2 file")
    # two reviews, since torch takes a batch of one for one that is always so
    tokens = torch.zeros(2, checkpoint.config["data"]["sequence_length"], dtype=torch.int64)
    with waiting("exporting"), torch.no_grad():
        program = torch.export.export(classifier, (tokens,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        if given.file.suffix == ".pt2":
            buffer = io.BytesIO()
            torch.export.save(program, buffer, extra_files={"vocabulary": words})
            content = buffer.getvalue()
        else:
            # they warn of packages that are not here, and of what stays as large as it is
            for name in ("torch.onnx", "onnxscript"):
                logging.getLogger(name).setLevel(logging.ERROR)
            found = torch.onnx.export(
                program, input_names=["tokens"], output_names=["logits"], dynamo=True, verbose=False
            )
            assert found is not None, "with dynamo it gives a program"
            found.model.metadata_props["vocabulary"] = words
            content = found.model_proto.SerializeToString()
    write_atomically(given.file, content)
    print(f"written to {given.file}")


if __name__ == "__main__":
    main()
