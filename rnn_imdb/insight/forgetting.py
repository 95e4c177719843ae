"""How fast a model forgets: the influence of a word on the decision, the more words follow it."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rnn_imdb.model.classifier import Classifier

# reviews in one backward pass
CHUNK = 250
# share of a curve's maximum below which a word is forgotten
THRESHOLD = 0.01


def influence(classifier: Classifier, tokens: Int64[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """Influence of the word that k others follow, for each review,

        I_k = ‖∂ logit / ∂ x_{T-k}‖₂        k = 0 .. T-1

    with x_t the embedded word: exact, by one backward pass. For the readout ``last`` it is
    ‖w^T D_T W D_{T-1} W ... D_{T-k} A_x‖, D_t = diag(1 - h_t²), where k factors D W decide how fast it vanishes:
    Bengio, Simard and Frasconi, Learning Long-Term Dependencies with Gradient Descent is Difficult (1994). Other
    readouts see every state, and far words through it.

    Padding is a word like any other, but under ``mask_padding`` it is skipped in k too.

    Returns:
        I_0 .. I_{T-1} of each review, (B, T), on the CPU, in logits per unit of the embedding; NaN where a review has
        no such word.

    >>> from rnn_imdb.model.rnn import ReviewClassifier
    >>> influence(ReviewClassifier(), torch.ones(4, 500, dtype=torch.int64)).shape
    torch.Size([4, 500])
    """
    chunks = []
    for chunk in tokens.split(CHUNK):
        _, gradients = embedding_gradients(classifier, chunk)
        # squares of small numbers vanish in half precision
        dtype = torch.promote_types(gradients.dtype, torch.float32)
        chunks.append(torch.linalg.vector_norm(gradients, dim=2, dtype=dtype))
    norms = torch.cat(chunks)  # (B, T)
    mask = classifier.mask(tokens)
    if mask is not None:
        # padding goes to the front, wherever it stood
        order = mask.long().argsort(dim=1, stable=True)
        norms = norms.masked_fill(~mask, torch.nan).gather(1, order)
    return norms.flip(1).cpu()


def embedding_gradients(
    classifier: Classifier, tokens: Int64[Tensor, "batch time"]
) -> tuple[Float[Tensor, "batch time embedding"], Float[Tensor, "batch time embedding"]]:
    """The embedded words x_t and ∂ logit / ∂ x_t of each review; parameters and their gradients stay as they are."""
    with torch.enable_grad():
        inputs = classifier.embed(tokens).detach().requires_grad_()
        logits = classifier.logits_from(inputs, classifier.mask(tokens))
        # reviews are independent, so the gradient of the sum holds that of each logit
        (gradients,) = torch.autograd.grad(logits.sum(), inputs)
    return inputs.detach(), gradients


def forgetting_curve(norms: Float[Tensor, "batch time"]) -> Float[Tensor, " time"]:
    """The mean of :func:`influence` over the reviews that reach each lag; 0 where none does."""
    return norms.nanmean(dim=0).nan_to_num(0.0)


def typical_curve(norms: Float[Tensor, "batch time"]) -> Float[Tensor, " time"]:
    """The median over the reviews that reach each lag; 0 where none does.

    Influences are products of many factors, so they differ by powers of ten between reviews: in the lecture's model
    one review of 250 can make up most of their mean at long lags.
    """
    return norms.nanmedian(dim=0).values.nan_to_num(0.0)


def memory_length(curve: Float[Tensor, " time"]) -> int:
    """How many of the last words count: the first lag from which on the curve stays below 1 % of its maximum.

    T where the last lag still counts, so that nothing is known but that it is T or more; 0 where nothing does (zeros).

    >>> memory_length(torch.tensor([5.0, 1.0, 0.2, 0.01])), memory_length(torch.tensor([5.0, 5.0]))
    (3, 2)
    """
    lags = ((curve > 0) & (curve >= THRESHOLD * curve.max())).nonzero()
    return int(lags.max()) + 1 if len(lags) else 0
