//! The scalar kernels against the `gguf` package (`tests/models/formats.py`) and plain arithmetic.

use half::f16;
use proptest::prelude::*;
use wick_kernels::{Activation, Encoding, Encodings, Format, Kernels, KvView, RowLayout, scalar};
use wick_tests::{golden_bytes, golden_floats};

const COLS: usize = 512;

/// The weights of a format's committed rows, as bytes and as the `gguf` package expands them.
fn rows(format: Format) -> (&'static [u8], Vec<f32>) {
    let file = |end| format!("formats/{format}.{end}");
    (golden_bytes(&file("bin")), golden_floats(&file("f32")))
}

#[test]
fn every_format_expands_as_gguf_says() {
    for format in Format::ALL {
        let (bytes, expected) = rows(format);
        assert_eq!(bytes.len(), 3 * format.row_bytes(COLS).unwrap(), "{format}");
        let mut found = vec![f32::NAN; expected.len()];
        let row_bytes = format.row_bytes(COLS).unwrap();
        for (row, out) in bytes.chunks(row_bytes).zip(found.chunks_mut(COLS)) {
            scalar::dequantize(format, row, out);
        }
        for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert!(
                (a - b).abs() <= 1e-6 * b.abs(),
                "{format} weight {i}: {b} expected, {a} found"
            );
        }
    }
}

#[test]
fn axpy_adds_a_multiple() {
    for format in Format::ALL {
        let (bytes, expected) = rows(format);
        let mut found = vec![1.0; COLS];
        scalar::axpy(format, &bytes[..format.row_bytes(COLS).unwrap()], -2.5, &mut found);
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - (1.0 - 2.5 * b)).abs() <= 1e-5 * b.abs().max(1.0), "{format}");
        }
    }
}

/// The values that a product sees: those of the encoding that the format is multiplied in.
fn seen(format: Format, x: &Activation<'_>) -> Vec<f64> {
    let (q8, per_scale) = match format.encoding() {
        Encoding::F32 => return x.values.iter().map(|v| f64::from(*v)).collect(),
        Encoding::Q8_0 => (x.q8_0, 32),
        Encoding::Q8_K => (x.q8_k, 256),
    };
    let value = |(i, q): (usize, &i8)| f64::from(q8.scales[i / per_scale]) * f64::from(*q);
    q8.quants.iter().enumerate().map(value).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Products are those of the expanded weights and the encoded activations.
    #[test]
    fn products_are_those_of_the_values(values in prop::collection::vec(-30f32..30.0, COLS)) {
        let layout = RowLayout::new(COLS, Encodings { q8_0: true, q8_k: true });
        let mut slab = vec![0.0; layout.stride()];
        slab[..COLS].copy_from_slice(&values);
        layout.encode(&mut slab);
        let x = layout.view(&slab);
        for format in Format::ALL {
            let (bytes, weights) = rows(format);
            let mut found = [f32::NAN; 3];
            Kernels::scalar().matvec(format)(bytes, &x, &mut found);
            for (row, found) in weights.chunks(COLS).zip(found) {
                let terms = row.iter().zip(seen(format, &x)).map(|(w, x)| f64::from(*w) * x);
                let size: f64 = terms.clone().map(f64::abs).sum();
                let expected: f64 = terms.sum();
                let off = (f64::from(found) - expected).abs();
                prop_assert!(off <= 1e-6 * size, "{format}: {expected} expected, {found} found");
            }
        }
    }

    /// Online attention over a ring equals a plain softmax over the same positions.
    #[test]
    fn attention_is_a_weighted_mean(
        seed in 0u32..1000, head in 1usize..40, group in 1usize..4, to in 1usize..400, window in 1usize..300,
    ) {
        let mut state = seed;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 4e6 - 2.0
        };
        let rows = (window + 10).next_multiple_of(wick_kernels::KEY_TILE);
        let mut slab = || -> Vec<f16> { (0..rows * head).map(|_| f16::from_f32(random())).collect() };
        let (keys, values) = (slab(), slab());
        let queries: Vec<f32> = (0..group * head).map(|_| random()).collect();
        let view = KvView { keys: &keys, values: &values, head, from: to.saturating_sub(window), to };
        let mut found = vec![f32::NAN; group * head];
        Kernels::scalar().attention()(&queries, &view, &mut found);
        for (query, found) in queries.chunks(head).zip(found.chunks(head)) {
            let dot = |k: &[f16]| query.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let score = |p| (dot(view.key(p)) / (head as f64).sqrt()).exp();
            let total: f64 = (view.from..to).map(score).sum();
            for (i, found) in found.iter().enumerate() {
                let mean = |p| score(p) / total * f64::from(view.value(p)[i]);
                let expected: f64 = (view.from..to).map(mean).sum();
                prop_assert!((f64::from(*found) - expected).abs() < 1e-4);
            }
        }
    }

    /// Each step of a layer's vector arithmetic, against double precision.
    #[test]
    fn norms_and_rotations_are_right(x in prop::collection::vec(-50f32..50.0, 2..70), position in 0usize..40_000) {
        let weight: Vec<f32> = (0..x.len()).map(|i| 1.0 + i as f32 / 10.0).collect();
        let mut found = vec![0.0; x.len()];
        scalar::rms_norm(&x, &weight, 1e-6, &mut found);
        let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / x.len() as f64;
        for ((v, w), found) in x.iter().zip(&weight).zip(&found) {
            let expected = f64::from(*v) / (mean + 1e-6).sqrt() * f64::from(*w);
            prop_assert!((f64::from(*found) - expected).abs() <= 1e-5 * expected.abs() + 1e-9);
        }

        let pairs = x.len() / 2;
        let (mut cos, mut sin) = (vec![0.0; pairs], vec![0.0; pairs]);
        scalar::rope_table(position, 1.5e6, &mut cos, &mut sin);
        let mut turned = x.clone();
        scalar::rope(&mut turned, &cos, &sin);
        for i in 0..pairs {
            let angle = position as f64 * 1.5e6f64.powf(-(i as f64) / pairs as f64);
            let (a, b) = (f64::from(x[i]), f64::from(x[i + pairs]));
            prop_assert!((f64::from(turned[i]) - (a * angle.cos() - b * angle.sin())).abs() < 1e-4);
            prop_assert!((f64::from(turned[i + pairs]) - (a * angle.sin() + b * angle.cos())).abs() < 1e-4);
        }
        prop_assert_eq!(&turned[2 * pairs..], &x[2 * pairs..]);

        let mut found = x.clone();
        scalar::softmax(&mut found);
        let largest = x.iter().copied().fold(f32::MIN, f32::max);
        let total: f64 = x.iter().map(|v| f64::from(v - largest).exp()).sum();
        for (v, found) in x.iter().zip(found) {
            prop_assert!((f64::from(found) - f64::from(v - largest).exp() / total).abs() < 1e-6);
        }
    }
}
