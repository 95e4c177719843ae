"""The default training as a plain JAX program, one jitted step and no framework: what a user could write instead."""

# pyright: reportMissingImports=false
# an extra (peers)

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from rnn_imdb.model.rnn import ReviewClassifier


def make_step(
    classifier: ReviewClassifier, *, learning_rate: float = 0.001, alpha: float = 0.9, eps: float = 1e-7
) -> Callable[[Tensor, Tensor], Any]:
    """A function of tokens (B, T) and labels (B,) that takes one step of RMSprop and gives the loss before it.

    Args:
        classifier: of the readout ``last``; the program starts from its weights, and leaves them alone.
        learning_rate, alpha, eps: as for ``torch.optim.RMSprop``.
    """
    import jax
    from jax import numpy as jnp

    def loss_of(weights: dict[str, Any], tokens: Any, labels: Any) -> Any:
        A, state_dim = weights["cell.A"], len(weights["cell.A"])
        projected = weights["embedding.weight"][tokens] @ A[:, state_dim:].T + weights["cell.b"]  # (B, T, H)

        def advance(state: Any, p: Any) -> tuple[Any, None]:
            return jnp.tanh(p + state @ A[:, :state_dim].T), None

        last, _ = jax.lax.scan(advance, jnp.zeros((len(tokens), state_dim)), projected.swapaxes(0, 1))
        logits = last @ weights["head.weight"][0] + weights["head.bias"]
        return (jnp.logaddexp(0, logits) - labels * logits).mean()

    def step(weights: Any, squares: Any, tokens: Any, labels: Any) -> tuple[Any, Any, Any]:
        loss, gradients = jax.value_and_grad(loss_of)(weights, tokens, labels)
        squares = jax.tree.map(lambda s, g: alpha * s + (1 - alpha) * g * g, squares, gradients)
        moved = jax.tree.map(lambda w, g, s: w - learning_rate * g / (jnp.sqrt(s) + eps), weights, gradients, squares)
        return moved, squares, loss

    compiled = jax.jit(step, donate_argnums=(0, 1))
    weights = {name: jnp.array(weight.detach().numpy()) for name, weight in classifier.named_parameters()}
    squares = jax.tree.map(jnp.zeros_like, weights)

    def go(tokens: Tensor, labels: Tensor) -> Any:
        nonlocal weights, squares
        weights, squares, loss = compiled(weights, squares, tokens.numpy().astype(np.int32), labels.numpy())
        return loss

    return go
