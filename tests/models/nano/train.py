"""Trains nano. By wall clock (--minutes) or by a number of steps (--steps), on any JAX backend."""

import argparse
import os
import time

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tokenizers import Tokenizer

import checkpoint
import data
import model
import optimizer

SLACK = 1.5  # places of an expert in training, as a multiple of its fair share
BALANCE = 0.01  # weight of the balance loss
WARMUP = 40  # steps
DECAY_FROM = 0.5  # of the run; from there the rate falls linearly to zero
REACH_ALL = 0.4  # of the run; until there the distances to recall across grow
QUANTIZED_FROM = 0.6  # of the run; from there the forward pass sees Q4_0-rounded matrices


def loss(params, batch, quantized, config, groups):
    params = model.quantized(params, quantized)
    logits, routing = model.forward(
        params, batch["tokens"], batch["segments"], batch["positions"], config, groups, SLACK
    )
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
    entropy = (entropy * batch["weights"]).sum() / batch["weights"].sum()
    return entropy + BALANCE * routing["balance"], (entropy, routing["balance"], routing["silent"].mean(), routing["dropped"])


def make_step(config, tx, state, groups):
    """One step; each device holds whole groups and averages its gradients with the others."""
    devices = max(n for n in range(1, groups + 1) if groups % n == 0 and n <= jax.device_count())
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))

    def gradients(params, batch, quantized):
        grad = jax.value_and_grad(loss, has_aux=True)
        (_, figures), grads = grad(params, batch, quantized, config, groups // devices)
        return jax.lax.pmean((figures, grads), "data")

    replicated, split = PartitionSpec(), PartitionSpec("data")
    everywhere = NamedSharding(mesh, replicated)

    def by_layer_of(x):
        """Divides the optimizer's work on the stacked layers."""
        return NamedSharding(mesh, split) if x.ndim > 2 else everywhere

    gradients = jax.shard_map(
        gradients, mesh=mesh, in_specs=(replicated, split, replicated), out_specs=replicated, check_vma=False
    )

    def step(params, state, batch, rate, quantized):
        figures, grads = gradients(params, batch, quantized)
        grads = {k: jax.lax.with_sharding_constraint(g, by_layer_of(g)) for k, g in grads.items()}
        updates, state = tx.update(grads, state, params)
        params = jax.tree.map(lambda p, u: p + rate * u, params, updates)
        return params, state, figures

    states = jax.tree.map(by_layer_of, state)
    return jax.jit(
        step,
        in_shardings=(everywhere, states, NamedSharding(mesh, split), everywhere, everywhere),
        out_shardings=(everywhere, states, everywhere),
        donate_argnums=(0, 1),
    )


def rate_at(step, progress):
    warm = min(1.0, (step + 1) / WARMUP)
    return warm * min(1.0, max(0.0, 1 - progress) / (1 - DECAY_FROM))


def arguments():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--minutes", type=float, default=150, help="wall clock to train (default 150)")
    a.add_argument("--steps", type=int, help="train this many steps instead")
    a.add_argument("--batch", type=int, default=4, help="sequences in a step (default 4)")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--tokenizer", default="tokenizer.json")
    a.add_argument("--out", default="nano.npz", help="checkpoint to write")
    a.add_argument("--resume", help="checkpoint to continue from: a further leg, rounded from its start")
    a.add_argument("--rate", type=float, default=1.0, help="factor on the learning rates (default 1)")
    a.add_argument("--save-every", type=float, default=4, help="minutes between checkpoints (default 4)")
    return a.parse_args()


def main():
    args = arguments()
    tokenizer = Tokenizer.from_file(args.tokenizer)
    config = model.Config(vocab=tokenizer.get_vocab_size())
    shares = data.LATER_GROUPS if args.resume else data.GROUPS
    groups = len(shares)
    tx = optimizer.make(config)
    params = model.init(jax.random.PRNGKey(args.seed), config)
    state, first = tx.init(params), 0
    if args.resume:
        params, state, first = checkpoint.load(args.resume, params, state)
    batches = data.Batches(tokenizer, shares, args.batch // groups, config.context, f"{args.seed} {first}")
    print(f"{model.count(params):,} parameters, {jax.devices()}", flush=True)
    train(args, config, batches, tx, params, state, first, groups)


def train(args, config, batches, tx, params, state, first, groups):
    run = make_step(config, tx, state, groups)
    start = saved = time.time()
    tokens, step, shown = 0, 0, []
    while True:
        elapsed = (time.time() - start) / 60
        progress = step / args.steps if args.steps else elapsed / args.minutes
        if progress >= 1:
            break
        batches.reach = min(1.0, 0.1 + progress / REACH_ALL) if first == 0 else 1.0
        rounded = first > 0 or progress >= QUANTIZED_FROM
        batch = next(batches)
        params, state, figures = run(
            params, state, batch, args.rate * rate_at(step, progress), float(rounded)
        )
        tokens, step = tokens + batch["tokens"].size, step + 1
        shown.append([float(f) for f in figures])
        if step % 10 == 0:
            entropy, balance, sparsity, dropped = np.mean(shown, 0)
            speed = tokens / (time.time() - start)
            print(f"step {first + step} progress {progress:.3f} loss {entropy:.4f} balance {balance:.3f} "
                  f"sparsity {sparsity:.3f} dropped {dropped:.4f} {speed:.0f} tokens/s {elapsed:.1f} min", flush=True)
            shown = []
        if time.time() - saved > args.save_every * 60:
            checkpoint.save(args.out, params, state, first + step)
            saved = time.time()
    checkpoint.save(args.out, params, state, first + step)
    print(f"{step} steps, {tokens:,} tokens, {(time.time() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
