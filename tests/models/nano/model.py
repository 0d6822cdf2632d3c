"""SmallThinker in JAX: the forward pass that training, evaluation and the reference logits share.

Fine-grained mixture of ReGLU experts, a sigmoid router that reads the raw residual before the
attention norm, and one global attention layer without positions (NoPE) in each period of four; the
other three rotate (RoPE, NEOX pairs) and see a sliding window.

Every matrix is stored [out, in], as GGUF stores it, so quantization blocks run along the last axis.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

BLOCK = 32  # weights in a Q4_0 or Q8_0 block
NEG = -1e30


@dataclass(frozen=True)
class Config:
    """Shape of a model; the defaults are nano's."""

    vocab: int = 2048
    hidden: int = 256
    layers: int = 8
    heads: int = 8
    kv_heads: int = 2
    head_size: int = 32
    experts: int = 16
    active: int = 4
    expert_width: int = 64
    window: int = 64
    period: int = 4
    context: int = 512
    rope_theta: float = 10000.0
    eps: float = 1e-6

    def is_global(self, layer):
        """The first layer of each period sees everything and has no positions."""
        return layer % self.period == 0


def init(key, c):
    """Random parameters as a flat dictionary; per-layer matrices are stacked on axis 0."""
    q, kv = c.heads * c.head_size, c.kv_heads * c.head_size
    shapes = {
        "attn_q": (c.layers, q, c.hidden),
        "attn_k": (c.layers, kv, c.hidden),
        "attn_v": (c.layers, kv, c.hidden),
        "attn_output": (c.layers, c.hidden, q),
        "ffn_gate_inp": (c.layers, c.experts, c.hidden),
        "ffn_gate_exps": (c.layers, c.experts, c.expert_width, c.hidden),
        "ffn_up_exps": (c.layers, c.experts, c.expert_width, c.hidden),
        "ffn_down_exps": (c.layers, c.experts, c.hidden, c.expert_width),
    }
    keys = jax.random.split(key, len(shapes) + 1)
    params = {"token_embd": 0.04 * jax.random.normal(keys[0], (c.vocab, c.hidden))}
    for k, (name, shape) in zip(keys[1:], shapes.items()):
        into_residual = name in ("attn_output", "ffn_down_exps")
        scale = (0.2 if into_residual else 0.7) / shape[-1] ** 0.5
        params[name] = scale * jax.random.normal(k, shape)
    for name in ("attn_norm", "ffn_norm"):
        params[name] = jnp.ones((c.layers, c.hidden))
    params["output_norm"] = jnp.ones(c.hidden)
    return params


def rms_norm(x, gain, eps):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + eps) * gain


def rope(x, positions, theta):
    """Rotates [batch, time, heads, size] in NEOX pairs (i, i + size/2)."""
    half = x.shape[-1] // 2
    angle = positions[..., None] * theta ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angle)[..., None, :], jnp.sin(angle)[..., None, :]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def attend(q, k, v, mask):
    """q [n, kv, group, t, d], k and v [n, kv, s, d], mask [n, t, s] -> [n, kv, group, t, d]."""
    n, kv, group, t, d = q.shape
    s = k.shape[2]
    scores = jnp.einsum("nkmd,nksd->nkms", q.reshape(n, kv, group * t, d) * d**-0.5, k)
    scores = scores.reshape(n, kv, group, t, s) + jnp.where(mask, 0.0, NEG)[:, None, None]
    scores = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    total = scores.sum(-1, keepdims=True)
    out = jnp.einsum("nkms,nksd->nkmd", scores.reshape(n, kv, group * t, s), v)
    return out.reshape(q.shape) / total


def global_attention(q, k, v, segments, chunk=64):
    """Causal within a segment; in chunks of queries, so that the upper triangle costs nothing."""
    t = q.shape[3]
    out = []
    for start in range(0, t, chunk):
        end = min(start + chunk, t)
        causal = jnp.arange(end) <= jnp.arange(start, end)[:, None]
        mask = causal & (segments[:, start:end, None] == segments[:, None, :end])
        out.append(attend(q[:, :, :, start:end], k[:, :, :end], v[:, :, :end], mask))
    return jnp.concatenate(out, 3)


def window_attention(q, k, v, segments, window):
    """Each chunk of `window` queries sees its own chunk and the one before it."""
    b, kv, group, t, d = q.shape
    n = -(-t // window)

    def chunks(x, axis, fill=0):
        """Splits the time axis into n chunks and moves them next to the batch."""
        widths = [(0, 0)] * x.ndim
        widths[axis] = (0, n * window - t)
        x = jnp.pad(x, widths, constant_values=fill)
        return jnp.moveaxis(x.reshape(*x.shape[:axis], n, window, *x.shape[axis + 1 :]), axis, 1)

    def with_previous(x, axis, fill=0):
        x = chunks(x, axis, fill)
        before = jnp.pad(x[:, :-1], [(0, 0), (1, 0)] + [(0, 0)] * (x.ndim - 2), constant_values=fill)
        x = jnp.concatenate([before, x], axis + 1)
        return x.reshape(b * n, *x.shape[2:])

    query = jnp.arange(window)[:, None] + window
    seen = jnp.arange(2 * window)
    near = (seen <= query) & (seen > query - window)
    own = chunks(segments, 1, -1).reshape(b * n, window)
    mask = near & (own[:, :, None] == with_previous(segments, 1, -2)[:, None])
    query = chunks(q, 3).reshape(b * n, kv, group, window, d)
    out = attend(query, with_previous(k, 2), with_previous(v, 2), mask)
    out = jnp.moveaxis(out.reshape(b, n, kv, group, window, d), 1, 3)
    return out.reshape(b, kv, group, n * window, d)[:, :, :, :t]


def attention(p, x, layer, positions, segments, c):
    b, t, _ = x.shape

    def heads(w, n):
        return (x @ w.T).reshape(b, t, n, c.head_size)

    q, k, v = heads(p["attn_q"], c.heads), heads(p["attn_k"], c.kv_heads), heads(p["attn_v"], c.kv_heads)
    if not c.is_global(layer):
        q, k = rope(q, positions, c.rope_theta), rope(k, positions, c.rope_theta)
    q = q.reshape(b, t, c.kv_heads, -1, c.head_size).transpose(0, 2, 3, 1, 4)
    k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
    if c.is_global(layer):
        out = global_attention(q, k, v, segments)
    else:
        out = window_attention(q, k, v, segments, c.window)
    return out.transpose(0, 3, 1, 2, 4).reshape(b, t, -1) @ p["attn_output"].T


@jax.custom_vjp
def dispatch(x, source, places):
    """Rows of x [n, h] in the order of `source` (token of each place; n where the place is empty)."""
    return jnp.concatenate([x, jnp.zeros_like(x[:1])])[source]


@jax.custom_vjp
def combine(y, source, places):
    """The transpose of `dispatch`: for each token the sum over its `places` [n, active]."""
    y = jnp.concatenate([y, jnp.zeros_like(y[:1])])
    return sum(y[places[:, j]] for j in range(places.shape[1]))


def _same(f):
    return lambda x, source, places: (f(x, source, places), (source, places))


def _back(f):
    return lambda plan, grad: (f(grad, *plan), None, None)


dispatch.defvjp(_same(dispatch), _back(combine))
combine.defvjp(_same(combine), _back(dispatch))


def plan(chosen, experts, capacity):
    """Gives each (token, expert) pair a place among the `capacity` places of its expert.

    chosen [n, active] -> source [experts * capacity] (token of each place, or n where it is empty),
    places [n, active] (experts * capacity for a pair that found its expert full).
    """
    n, active = chosen.shape
    flat = chosen.reshape(-1)
    hot = jax.nn.one_hot(flat, experts, dtype=jnp.int32)
    rank = (jnp.cumsum(hot, 0) * hot).sum(-1) - 1
    places = jnp.where(rank < capacity, flat * capacity + rank, experts * capacity)
    token = jnp.arange(n * active, dtype=jnp.int32) // active
    source = jnp.full(experts * capacity + 1, n, jnp.int32).at[places].set(token)
    return source[:-1], places.reshape(n, active)


def route(router, x, c):
    """Chooses on the logits and normalizes the sigmoids of the chosen: (experts, weights, logits)."""
    logits = x @ router.T
    top, chosen = jax.lax.top_k(logits, c.active)
    weight = jax.nn.sigmoid(top)
    return chosen, weight / weight.sum(-1, keepdims=True), logits


def experts(p, z, chosen, weight, c, capacity):
    """ReGLU experts on z [n, h], computed only where chosen.

    Returns the mixture [n, h], each token's share of silent neurons, and the share of (token,
    expert) pairs left out because their expert was full.
    """
    source, places = plan(chosen, c.experts, capacity)
    x = dispatch(z, source, places).reshape(c.experts, capacity, c.hidden)
    share = jnp.zeros(c.experts * capacity + 1).at[places.reshape(-1)].set(weight.reshape(-1))
    both = jnp.concatenate([p["ffn_gate_exps"], p["ffn_up_exps"]], 1)
    gate, up = jnp.split(x @ both.transpose(0, 2, 1), 2, -1)
    gate = jax.nn.relu(gate)
    y = (gate * up * share[:-1].reshape(c.experts, capacity, 1)) @ p["ffn_down_exps"].transpose(0, 2, 1)
    out = combine(y.reshape(-1, c.hidden), source, places)
    silent = (gate <= 0).mean(-1).reshape(-1)[jnp.minimum(places, c.experts * capacity - 1)].mean(-1)
    return out, silent, (places == c.experts * capacity).mean()


def balance_loss(logits, chosen, groups, c):
    """Switch-style balance from the token statistics of each data-parallel group, then the mean."""
    share = jax.nn.sigmoid(logits)
    share = (share / share.sum(-1, keepdims=True)).reshape(groups, -1, c.experts).mean(1)
    count = jax.nn.one_hot(chosen, c.experts).sum(-2).reshape(groups, -1, c.experts).mean(1)
    return (share * count).sum(-1).mean() * c.experts / c.active


@partial(jax.jit, static_argnames=("c", "groups", "slack"))
def forward(params, tokens, segments, positions, c, groups=1, slack=None):
    """Logits [batch, time, vocab] of token ids [batch, time], and what the routers did.

    Positions see each other only within a segment (a document of a packed sequence). An expert
    takes `slack` times its fair share of the tokens, or all that want it (None). The second value
    holds `balance` (loss), `dropped` (share of pairs whose expert was full), `chosen` [layers, batch,
    time, active] and `silent` [layers, batch, time] (share of the chosen neurons).
    """
    b, t = tokens.shape
    capacity = b * t if slack is None else int(slack * b * t * c.active / c.experts)
    x = params["token_embd"][tokens]
    balance, dropped, chosen_by_layer, silent_by_layer = 0.0, 0.0, [], []
    for layer in range(c.layers):
        p = {k: v[layer] for k, v in params.items() if k not in ("token_embd", "output_norm")}
        chosen, weight, logits = route(p["ffn_gate_inp"], x.reshape(b * t, -1), c)
        y = x + attention(p, rms_norm(x, p["attn_norm"], c.eps), layer, positions, segments, c)
        z = rms_norm(y, p["ffn_norm"], c.eps).reshape(b * t, -1)
        out, silent, lost = experts(p, z, chosen, weight, c, capacity)
        x = y + out.reshape(x.shape)
        balance += balance_loss(logits, chosen, groups, c) / c.layers
        dropped += lost / c.layers
        chosen_by_layer.append(chosen.reshape(b, t, -1))
        silent_by_layer.append(silent.reshape(b, t))
    logits = rms_norm(x, params["output_norm"], c.eps) @ params["token_embd"].T
    return logits, {
        "balance": balance,
        "dropped": dropped,
        "chosen": jnp.stack(chosen_by_layer),
        "silent": jnp.stack(silent_by_layer),
    }


MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")


def round_q4_0(w):
    """What Q4_0 keeps of w: blocks of 32 along the last axis, f16 scale, 16 levels."""
    x = w.reshape(*w.shape[:-1], -1, BLOCK)
    high, low = x.max(-1, keepdims=True), x.min(-1, keepdims=True)
    scale = jnp.where(high >= -low, high, low) / -8
    inverse = jnp.where(scale == 0, 0, 1 / jnp.where(scale == 0, 1, scale))
    q = jnp.minimum(15, jnp.trunc(x * inverse + 8.5)) - 8
    return (q * scale.astype(jnp.float16).astype(jnp.float32)).reshape(w.shape)


def round_q8_0(w):
    """What Q8_0 keeps of w."""
    x = w.reshape(*w.shape[:-1], -1, BLOCK)
    scale = jnp.abs(x).max(-1, keepdims=True) / 127
    q = jnp.round(x / jnp.where(scale == 0, 1, scale))
    return (q * scale.astype(jnp.float16).astype(jnp.float32)).reshape(w.shape)


def quantized(params, share=1.0):
    """Parameters as the shipped file rounds them (share 0: unrounded), gradients straight through."""

    def through(w, f):
        return w + share * jax.lax.stop_gradient(f(w) - w)

    rounded = {k: through(params[k], round_q4_0) for k in MATRICES}
    rounded["token_embd"] = through(params["token_embd"], round_q8_0)
    return {**params, **rounded}


def count(params):
    return sum(int(np.prod(v.shape)) for v in params.values())
