"""The words as a model sees them, in the files of TensorBoard's projector."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from rnn_imdb.common.files import write_atomically
from rnn_imdb.data.cache import Encoding
from rnn_imdb.data.text import fit_length
from rnn_imdb.model.classifier import Classifier

FOLDER = "word_map"
# where the projector looks for it, beside the events
PROJECTOR = "projector_config.pbtxt"


def polarities(
    classifier: Classifier, encoding: Encoding, words: Sequence[int], *, batch_size: int
) -> Float[np.ndarray, " words"]:
    """What each word does to the model on its own, for each index w in ``words``:

        polarity(w) = f([w]) − f([])

    f is the logit, [w] the review of the word w alone and [] the empty one, both padded to T as ``encoding`` says. A
    polarity above 0 speaks for a positive review. (Where padding follows the word and is not masked, a readout of the
    last state may have forgotten it: polarities are then near 0, which is how the model reads.)
    """
    reviews = [np.array(review, dtype=np.int64) for review in ([], *([word] for word in words))]
    rows = [fit_length(review, encoding.sequence_length, encoding.padding, encoding.truncation) for review in reviews]
    batches = torch.from_numpy(np.stack(rows)).split(batch_size)
    device = classifier.embedding.weight.device
    logits = torch.cat([classifier(batch.to(device)).cpu().double() for batch in batches])
    return (logits[1:] - logits[0]).numpy()


def write_map(folder: Path, vectors: Float[np.ndarray, "words embedding"], metadata: Sequence[str]) -> None:
    """Write what TensorBoard's projector reads: ``vectors``, and lines of tab-separated ``metadata`` under a header."""
    tensors = io.BytesIO()
    # nine digits tell all float32 apart
    np.savetxt(tensors, vectors, fmt="%.9g", delimiter="\t")
    config = f"""\
embeddings {{
  tensor_name: "{FOLDER}"
  tensor_path: "{FOLDER}/tensors.tsv"
  metadata_path: "{FOLDER}/metadata.tsv"
}}
"""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FOLDER / "tensors.tsv", tensors.getvalue())
    write_atomically(folder / FOLDER / "metadata.tsv", ("\n".join(metadata) + "\n").encode())
    write_atomically(folder / PROJECTOR, config.encode())
