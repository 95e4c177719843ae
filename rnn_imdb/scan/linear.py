"""The linear recurrence over a whole sequence: any device, any floating dtype."""

from jaxtyping import Bool, Float
from torch import Tensor

from rnn_imdb.scan import check_inputs
from rnn_imdb.scan.bptt import Recurrence


def linear_scan(
    projected: Float[Tensor, "batch time state"],
    weight: Float[Tensor, "state state"],
    initial_state: Float[Tensor, "batch state"],
    mask: Bool[Tensor, "batch time"] | None = None,
) -> Float[Tensor, "batch time state"]:
    """All states of a linear recurrence,

        h_t = projected_t + W h_{t-1}        h_t = h_{t-1} where ``mask`` is False

    Arguments, result and errors are those of ``rnn_imdb.scan.tanh_scan``; the backward pass is that of
    ``rnn_imdb.scan.bptt`` with a slope of one. With eigenvalues of W outside the unit circle long sequences may
    overflow to inf.
    """
    check_inputs(projected, weight, initial_state, mask)
    return Recurrence.apply(projected, weight, initial_state, mask, False)  # pyright: ignore[reportReturnType]
