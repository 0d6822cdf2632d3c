//! Reads a model that may be anything, as far as it goes.

use wick_core::{
    Arena, Config, Engine, HeadRows, KvFormat, Logits, Options, Plan, Serial, Token, Weights,
};
use wick_format::{Gguf, Model, Overrides, Value};
use wick_kernels::Kernels;

/// Most bytes that are taken to compute with a model; a larger one is read alone.
const MOST: usize = 8 << 20;

/// Reads everything that can be read of a model in these files, and computes two tokens with it. What is refused is refused
/// in one short line.
pub(crate) fn load(files: &[Vec<u8>]) {
    let parts: Result<Vec<Gguf<'_>>, _> = files.iter().map(|file| Gguf::parse(file)).collect();
    let Ok(parts) = parts.map_err(|error| check(&error)) else { return };
    for part in &parts {
        part.entries().for_each(|entry| walk(entry.value));
        part.tensors().for_each(|tensor| _ = tensor.bytes().map(<[u8]>::len));
        if let Err(error) = wick_session::tokenizer(part) {
            check(&error);
        }
    }
    let model = Model::new(&parts).map_err(|error| check(&error));
    let Ok(model) = model else { return };
    let Ok(config) = model.config(Overrides::default()).map_err(|error| check(&error)) else {
        return;
    };
    extents(&model, &config);
    let Ok(weights) = model.weights(&config).map_err(|error| check(&error)) else { return };
    weights.validate(&config).expect("weights that were checked by name");
    model.unused(config.layers).for_each(drop);
    compute(config, &weights);
}

/// One short line for a person.
pub(crate) fn check(error: &dyn std::fmt::Display) {
    let message = error.to_string();
    assert!(message.len() < 600 && !message.contains(char::is_control), "{message:?}");
}

fn walk(value: Value<'_>) {
    if let Value::Array(array) = value {
        assert_eq!(array.iter().map(walk).count(), array.len());
    }
}

/// Looks for experts wherever the file says that they are.
fn extents(model: &Model<'_, '_>, config: &Config) {
    let Some(packed) = model.packed() else { return };
    packed.tensors().for_each(drop);
    _ = packed.section("sketch");
    for layer in 0..config.layers {
        for found in [packed.layer(config, layer).map(Some), packed.low_bit(config, layer)] {
            match found {
                Ok(Some(layer)) => _ = (layer.bytes(), layer.locations()),
                Ok(None) => (),
                Err(error) => check(&error),
            }
        }
        if let Err(error) = model.expert_locations(config, layer) {
            check(&error);
        }
    }
    assert_eq!(packed.checksums().count(), model.metadata().tensor_count());
}

/// Computes two tokens, if that takes little memory.
fn compute(config: Config, weights: &Weights<'_>) {
    let context = config.context.min(8);
    let (head_rows, kv) = (HeadRows::Exact, KvFormat::F16);
    let options = Options { context, sequences: 1, batch: 2, logits: 1, head_rows, kv };
    let plan = match Plan::new(&config, weights, &options) {
        Ok(plan) if plan.arena() <= MOST => plan,
        Ok(_) => return,
        Err(error) => return check(&error),
    };
    let mut memory = vec![0xAA; plan.arena()];
    let mut arena = Arena::new(&mut memory);
    let engine = Engine::new(config, weights, options, &mut arena, Kernels::scalar(), &Serial);
    let mut engine = match engine {
        Ok(engine) => engine,
        Err(error) => return check(&error),
    };
    let last = config.vocab as u32 - 1;
    for token in [Token::new(last, 0, Logits::None), Token::new(0, 0, Logits::All)] {
        if let Err(error) = engine.step(&[token]) {
            check(&error);
        }
    }
}
