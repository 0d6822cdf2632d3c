"""Checkpoints: parameters and optimizer state in one .npz, written whole or not at all."""

import os

import jax
import numpy as np


def save(path, params, state, step):
    leaves = {f"state.{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(state))}
    leaves |= {f"param.{k}": np.asarray(v) for k, v in params.items()}
    partial = f"{path}.partial.npz"
    np.savez(partial, step=step, **leaves)
    os.replace(partial, path)


def load(path, params, state):
    """Restores into the structure of `params` and `state`."""
    with np.load(path) as file:
        leaves = [file[f"state.{i}"] for i in range(len(jax.tree.leaves(state)))]
        state = jax.tree.unflatten(jax.tree.structure(state), leaves)
        return {k: file[f"param.{k}"] for k in params}, state, int(file["step"])


def load_params(path):
    """The parameters alone."""
    with np.load(path) as file:
        return {k[6:]: file[k] for k in file.files if k.startswith("param.")}
