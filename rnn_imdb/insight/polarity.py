"""What each word says alone."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from rnn_imdb.data.cache import Encoding
from rnn_imdb.data.text import fit_length
from rnn_imdb.model.classifier import Classifier


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
