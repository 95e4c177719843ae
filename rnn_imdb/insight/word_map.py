"""The words as the model sees them, for TensorBoard's projector."""

import io
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch.loggers import TensorBoardLogger

from rnn_imdb.common.files import write_atomically
from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.data.text import UNKNOWN_INDEX, fit_length
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.training.module import SentimentModule

FOLDER = "word_map"
# where the projector looks for it, beside the events
PROJECTOR = "projector_config.pbtxt"


class WordMap(L.Callback):
    """Where the embedding put each word, and what the word does to the model on its own:

        polarity(w) = f([w]) − f([])

    f is the model's logit, [w] the review of the word w alone and [] the empty one, both padded to T as the data are.
    A polarity above 0 speaks for a positive review. (Where padding follows the word and is not masked, a readout of
    the last state may have forgotten it: polarities are then near 0, which is how the model reads.)

    Written once, at the end of training and with its last weights: ``word_map/tensors.tsv``, an embedding a line;
    ``word_map/metadata.tsv`` with word, frequency and polarity; and ``projector_config.pbtxt``, by which the projector
    finds both. The frequency counts the tokens of the training split that the model reads, so none that truncation
    took. ``<pad>`` and ``<unk>`` are left out. There is nothing to do without TensorBoard's logger.

    Args:
        words: how many words to show, in the order of the vocabulary: the most frequent first.

    Raises:
        ValueError: that is no number of words.
    """

    def __init__(self, words: int = 2000) -> None:
        if words < 1:
            raise ValueError(f"words must be a whole number from 1, got {words}")
        self.words = words

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # unlike on_train_end, this also comes to a run that is resumed when only its end is missing
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not (boards and trainer.is_global_zero):
            return
        assert isinstance(pl_module, SentimentModule)
        data: IMDBDataModule = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue] Lightning sets it
        first = UNKNOWN_INDEX + 1
        shown = range(first, min(first + self.words, len(data.vocabulary)))
        # Lightning has moved the module to the CPU by now, where not every scan runs
        classifier = deepcopy(pl_module.classifier).to(trainer.strategy.root_device).eval()
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            values = polarities(classifier, data, shown)
        frequencies = np.bincount(data.split("train").tokens.ravel(), minlength=len(data.vocabulary))
        lines = [
            f"{word}\t{frequency}\t{value:.6g}"
            for word, frequency, value in zip(data.vocabulary.decode(shown), frequencies[shown], values, strict=True)
        ]
        vectors = classifier.embedding.weight.detach()[shown.start : shown.stop].float().cpu().numpy()
        for board in boards:
            write_map(Path(board.log_dir), vectors, ["word\tfrequency\tpolarity", *lines])


def polarities(classifier: Classifier, data: IMDBDataModule, words: Sequence[int]) -> Float[np.ndarray, " words"]:
    """f([w]) − f([]) for each index w in ``words``, (words,)."""
    encoding = data.encoding
    reviews = [np.array(review, dtype=np.int64) for review in ([], *([word] for word in words))]
    rows = [fit_length(review, encoding.sequence_length, encoding.padding, encoding.truncation) for review in reviews]
    batches = torch.from_numpy(np.stack(rows)).split(data.evaluation_batch_size)
    device = classifier.embedding.weight.device
    logits = torch.cat([classifier(batch.to(device)).cpu().double() for batch in batches])
    return (logits[1:] - logits[0]).numpy()


def write_map(folder: Path, vectors: Float[np.ndarray, "words embedding"], metadata: Sequence[str]) -> None:
    """Write what TensorBoard's projector reads: ``vectors``, and lines of tab-separated ``metadata`` under a header."""
    tensors = io.BytesIO()
    # nine digits tell all float32 apart
    np.savetxt(tensors, vectors, fmt="%.9g", delimiter="\t")
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FOLDER / "tensors.tsv", tensors.getvalue())
    write_atomically(folder / FOLDER / "metadata.tsv", ("\n".join(metadata) + "\n").encode())
    config = f"""\
embeddings {{
  tensor_name: "{FOLDER}"
  tensor_path: "{FOLDER}/tensors.tsv"
  metadata_path: "{FOLDER}/metadata.tsv"
}}
"""
    write_atomically(folder / PROJECTOR, config.encode())
