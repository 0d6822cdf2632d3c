"""Tests of the recipe itself; run with `python test_recipe.py` (needs no pytest), about a minute."""

import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import gguf
import jax
import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import check
import corpus
import export
import load
import model
import publish
import reference
from corpus import arithmetic, commands
from corpus.common import is_held_out


def test_forward_agrees_with_numpy():
    """The NumPy reference shares no code with the recipe; the text is three windows long."""
    path = HERE / "nano.gguf"
    reader = load.open_file(path)
    config, bpe = load.config(reader), load.tokenizer(reader)
    ids = bpe.encode((HERE / "skills" / "heldout.txt").read_text()[:2000]).ids[:200]
    ours = check.logits_of(load.params(reader), config, ids)
    theirs = reference.forward(reference.Model(path), ids, kv=np.float32)
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs
    assert np.abs(ours - theirs).max() <= 1e-3 * np.ptp(theirs)


def test_wick_converts_as_the_exporter_does():
    """From the shipped file's weights; Q4_0 of Q4_0 is the same, so they give the shipped file's tensors, too."""
    reader = load.open_file(HERE / "nano.gguf")
    params, config = load.params(reader), load.config(reader)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "nano").mkdir()
        tokenizer = folder / "nano" / "tokenizer.json"
        load.tokenizer(reader).save(str(tokenizer))
        publish.write(folder / "nano", params, tokenizer, config)
        for mode, output in (("q4_0", "q8_0"), ("q8_0", "q8_0"), ("f32", "f32")):
            export.write(folder / "exported.gguf", params, tokenizer, mode)
            wick = [os.environ.get("WICK", "wick"), "convert", folder / "nano", "-o", folder / "converted.gguf"]
            subprocess.run([*wick, "--type", mode, "--output-type", output], check=True, stdout=subprocess.DEVNULL)
            exported, converted = (everything(folder / f"{name}.gguf") for name in ("exported", "converted"))
            # The exporter describes the model in words, too.
            words = {"general.name", "general.description", "general.license", "general.languages"}
            assert {k: v for k, v in exported.items() if k not in words} == {k: v for k, v in converted.items() if k not in words}
            if mode == "q4_0":
                shipped = {t.name: t.data.tobytes() for t in reader.tensors}
                assert all(converted[f"tensor {name}"][1] == data for name, data in shipped.items())


def everything(path):
    """All keys and tensors of a file."""
    reader = load.open_file(path)
    keys = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    return keys | {f"tensor {t.name}": (t.tensor_type, t.data.tobytes()) for t in reader.tensors}


def test_rounding_is_the_files_rounding():
    w = np.random.default_rng(1).normal(size=(64, 256)).astype(np.float32)
    for ours, kind in ((model.round_q4_0, "Q4_0"), (model.round_q8_0, "Q8_0")):
        kind = gguf.GGMLQuantizationType[kind]
        theirs = gguf.quants.dequantize(gguf.quants.quantize(w, kind), kind)
        assert np.abs(np.asarray(ours(w)) - theirs).max() < 1e-6


def test_segments_hide_other_documents():
    config = model.Config(vocab=64, hidden=64, layers=4, window=16, context=128)
    params = model.init(jax.random.PRNGKey(3), config)
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 64, 70), rng.integers(0, 64, 50)
    packed = np.concatenate([a, b])[None]
    segments = np.repeat([0, 1], [70, 50])[None]
    positions = np.concatenate([np.arange(70), np.arange(50)])[None]
    both, _ = model.forward(params, packed, segments, positions, config)
    alone = check.logits_of(params, config, b.tolist())
    assert np.abs(np.asarray(both[0, 70:]) - alone).max() < 1e-4


def test_a_full_expert_drops_and_a_roomy_one_does_not():
    chosen = np.array([[0, 1], [0, 2], [0, 1]])
    source, places = model.plan(chosen, 3, 2)
    assert source.tolist() == [0, 1, 0, 2, 1, 3]  # 3: the empty place
    assert places.tolist() == [[0, 2], [1, 4], [6, 3]]  # 6: no place left


def test_sums_are_right():
    rng = random.Random(4)
    for _ in range(2000):
        _, (_, reply) = arithmetic.sums(rng)
        equations = re.findall(r"((?:\d+ [+-] )+\d+) = (\d+)", reply)
        assert equations and all(eval(left) == int(right) for left, right in equations), reply


def test_clock_is_right():
    rng = random.Random(5)
    for _ in range(2000):
        (_, h, m, n), (_, reply) = arithmetic.minutes_later(rng)
        end = (h * 60 + m + n) % 1440
        assert reply.endswith(f" {end // 60}:{end % 60:02}."), reply


def test_command_answers_are_json():
    rng = random.Random(6)
    for _ in range(2000):
        slot = commands.slots(rng)
        reply = json.loads(commands.answer(*slot))
        assert list(reply)[:3] == ["device", "room", "action"] and reply["device"] == slot[0]


def test_training_never_sees_held_out_slots():
    """Arithmetic problems are unique sentences, so the texts themselves can be searched."""
    rng = random.Random(7)
    trained = " ".join(corpus.render(corpus.document(rng, "arithmetic")) for _ in range(3000))
    seen = {(int(a), int(b)) for a, b in re.findall(r"\. (\d+) \+ (\d+) = \d+\.", trained)}
    assert len(seen) > 500
    assert not any(is_held_out("add", a, b) for a, b in seen)


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(f"{name}: ok", flush=True)
