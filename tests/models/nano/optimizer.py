"""Muon for the matrices (momentum, orthogonalized by Newton-Schulz steps), Adam for the rest."""

import jax
import jax.numpy as jnp
import optax

from model import MATRICES


def orthogonalize(g, steps=5):
    """The nearest semi-orthogonal matrix to each [rows, columns] of g, roughly."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = g.shape[-2] <= g.shape[-1]
    x = g if wide else jnp.swapaxes(g, -1, -2)
    x = x / (jnp.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-7)
    for _ in range(steps):
        s = x @ jnp.swapaxes(x, -1, -2)
        x = a * x + (b * s + c * s @ s) @ x
    return x if wide else jnp.swapaxes(x, -1, -2)


def by_head(name, g, head_size):
    """Splits attention matrices into heads, since each head is a map of its own."""
    if name == "attn_output":
        x = g.reshape(*g.shape[:-1], -1, head_size)
        return jnp.moveaxis(orthogonalize(jnp.moveaxis(x, -2, 1)), 1, -2).reshape(g.shape)
    if name.startswith("attn_"):
        x = g.reshape(g.shape[0], -1, head_size, g.shape[-1])
        return orthogonalize(x).reshape(g.shape)
    return orthogonalize(g)


def muon(head_size, momentum=0.95):
    """Nesterov momentum, orthogonalized; the size grows with sqrt(rows / columns) of tall ones."""

    def init(params):
        return jax.tree.map(jnp.zeros_like, params)

    def update(grads, state, params=None):
        state = jax.tree.map(lambda m, g: momentum * m + (1 - momentum) * g, state, grads)
        mixed = jax.tree.map(lambda m, g: momentum * m + (1 - momentum) * g, state, grads)

        def one(name, g):
            rows, columns = g.shape[-2:]
            return by_head(name, g, head_size) * max(1.0, rows / columns) ** 0.5

        return {k: one(k, g) if isinstance(g, jax.Array) else g for k, g in mixed.items()}, state

    return optax.GradientTransformation(init, update)


def make(config, muon_rate=0.012, adam_rate=0.004):
    """Updates at full rate; the caller scales them by its schedule."""
    return optax.multi_transform(
        {
            "muon": optax.chain(
                muon(config.head_size), optax.add_decayed_weights(0.05), optax.scale(-muon_rate)
            ),
            "adam": optax.chain(optax.scale_by_adam(0.9, 0.98), optax.scale(-adam_rate)),
        },
        lambda params: {k: "muon" if k in MATRICES else "adam" for k in params},
    )
