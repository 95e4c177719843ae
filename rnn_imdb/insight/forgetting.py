"""How fast the network forgets: what a word counts for the decision, the more words follow it."""

import lightning.pytorch as L
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.insight.base import Insight, boards, last_step, sample, show
from rnn_imdb.model.rnn import ReviewClassifier

# reviews in one backward pass
PART = 250
# share of the curve's maximum below which a word is forgotten
THRESHOLD = 0.01


class ForgettingCurve(Insight):
    """Logs ``insight/memory_length``, of the mean curve, and ``insight/typical_memory_length``, of the median.

    Args:
        reviews: how many validation reviews are looked at.
        figure: whether to draw both as ``insight/forgetting``.
    """

    def __init__(self, reviews: int = 250, *, figure: bool = True) -> None:
        super().__init__(reviews)
        self.figure = figure

    def look(self, trainer: L.Trainer, classifier: ReviewClassifier, data: IMDBDataModule) -> None:
        tokens = sample(data.split("validation"), self.reviews, classifier.head.weight.device)
        norms = influence(classifier, tokens)
        lengths: dict[str, float] = {
            "insight/memory_length": memory_length(forgetting_curve(norms)),
            "insight/typical_memory_length": memory_length(typical_curve(norms)),
        }
        self.write(trainer, lengths)
        if self.figure and boards(trainer):
            # it imports matplotlib
            from rnn_imdb.insight.figures import draw_forgetting

            epoch = trainer.current_epoch + 1
            show(trainer, "insight/forgetting", lambda: draw_forgetting(norms, epoch=epoch), last_step(trainer))


def influence(classifier: ReviewClassifier, tokens: Int64[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """Influence of the word that k others follow, for each review,

        I_k = ‖∂ logit / ∂ x_{T-k}‖₂        k = 0 .. T-1

    with x_t the embedded word: exact, by one backward pass. For the readout ``last`` it is
    ‖w^T D_T W D_{T-1} W ... D_{T-k} A_x‖, D_t = diag(1 - h_t²), where k factors D W decide how fast it vanishes:
    Bengio, Simard and Frasconi, Learning Long-Term Dependencies with Gradient Descent is Difficult (1994). Other
    readouts see every state, and far words through it.

    Padding is a word like any other, but under ``mask_padding`` it is skipped in k too.

    Args:
        classifier: its parameters and their gradients stay as they are.
        tokens: reviews, (B, T).

    Returns:
        I_0 .. I_{T-1} of each review, (B, T), on the CPU, in logits per unit of the embedding; NaN where a review has
        no such word.
    """
    norms = torch.cat([_gradient_norms(classifier, part) for part in tokens.split(PART)])
    mask = classifier.mask(tokens)
    if mask is not None:
        # padding goes to the front, wherever it stood
        order = mask.long().argsort(dim=1, stable=True)
        norms = norms.masked_fill(~mask, torch.nan).gather(1, order)
    return norms.flip(1).cpu()


def _gradient_norms(classifier: ReviewClassifier, tokens: Tensor) -> Tensor:
    """‖∂ logit / ∂ x_t‖ of each review and step, (B, T)."""
    with torch.enable_grad():
        inputs = classifier.embed(tokens).detach().requires_grad_()  # (B, T, E)
        logits = classifier.logits_from(inputs, classifier.mask(tokens))
        # reviews are independent, so the gradient of the sum holds that of each logit
        (gradient,) = torch.autograd.grad(logits.sum(), inputs)
    # squares of small numbers vanish in half precision
    return torch.linalg.vector_norm(gradient, dim=2, dtype=torch.promote_types(gradient.dtype, torch.float32))


def forgetting_curve(norms: Float[Tensor, "batch time"]) -> Float[Tensor, " time"]:
    """The mean of :func:`influence` over the reviews that reach each lag; 0 where none does."""
    return norms.nanmean(dim=0).nan_to_num(0.0)


def typical_curve(norms: Float[Tensor, "batch time"]) -> Float[Tensor, " time"]:
    """The median over the reviews that reach each lag; 0 where none does.

    Influences are products of many factors, so they differ by powers of ten between reviews, and in the lecture's
    model one review of 250 can make up most of their mean at long lags.
    """
    return norms.nanmedian(dim=0).values.nan_to_num(0.0)


def memory_length(curve: Float[Tensor, " time"]) -> int:
    """How many of the last words count: the first lag from which on the curve stays below 1 % of its maximum.

    A lag where it is below once, and above again later, is not enough. T where the last lag still counts, and 0 where
    nothing does (a curve of zeros).
    """
    counting = (curve > 0) & (curve >= THRESHOLD * curve.max())
    lags = counting.nonzero()
    return int(lags.max()) + 1 if len(lags) else 0
