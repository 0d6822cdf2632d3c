//! The scalar kernels against the `gguf` package (`tests/models/formats.py`) and plain arithmetic, and
//! every other variant against the scalar kernels: the same bits, and no byte beyond any slice.

use half::f16;
use proptest::prelude::*;
use wick_kernels::{
    Activation, Encoding, Encodings, Format, GROUP, Kernels, KvCells, KvView, Layout, Q8Cells,
    Q8CellsMut, RowLayout, scalar, sketch, sketch_bytes, store_key_q8_0, store_value_q8_0,
};
use wick_linux::all_kernels;
use wick_tests::guarded::Guarded;
use wick_tests::{bits, golden_bytes, golden_floats};

/// Kernels read without checks: none may read beyond what it is given.
#[global_allocator]
static GUARDED: Guarded = Guarded;

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
        Kernels::scalar().encode()(&layout, &mut slab);
        let x = layout.view(&slab);
        for format in Format::ALL {
            let (bytes, weights) = rows(format);
            let mut found = [f32::NAN; 3];
            Kernels::scalar().matmul(format, Layout::Rows).unwrap()(bytes, &[x], &mut found);
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
        seed in 0u32..1000, head in 1usize..40, group in 1usize..20, to in 1usize..400, window in 1usize..300,
    ) {
        let mut state = seed;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 4e6 - 2.0
        };
        let rows = (window + 10).next_multiple_of(wick_kernels::KEY_TILE);
        let cells = Cells::new(rows, head, to, &mut random);
        let queries: Vec<f32> = (0..group * head).map(|_| random()).collect();
        let view = KvView { cells: cells.f16(), head, from: to.saturating_sub(window), to };
        let mut found = vec![f32::NAN; group * head];
        Kernels::scalar().attention()(&queries, &view, &mut found);
        for (query, found) in queries.chunks(head).zip(found.chunks(head)) {
            let at = |slab: &[f16], p: usize, i| f64::from(slab[p % rows * head + i]);
            let dot = |p| -> f64 { (0..head).map(|i| f64::from(query[i]) * at(&cells.keys, p, i)).sum() };
            let score = |p| (dot(p) / (head as f64).sqrt()).exp();
            let scores: Vec<f64> = (view.from..to).map(score).collect();
            let total: f64 = scores.iter().sum();
            for (i, found) in found.iter().enumerate() {
                let mean = |(p, score)| score / total * at(&cells.values, p, i);
                let expected: f64 = (view.from..to).zip(&scores).map(mean).sum();
                prop_assert!((f64::from(*found) - expected).abs() < 1e-4);
            }
        }
    }

    /// Each step of a layer's vector arithmetic, against double precision.
    /// With cells in Q8_0 it is the same mean of the rounded values, but for the rounding of queries.
    #[test]
    fn attention_over_q8_0_is_close(
        seed in 0u32..1000, blocks in 1usize..6, group in 1usize..20, to in 1usize..400, window in 1usize..300,
    ) {
        let mut state = Random(seed);
        let mut random = move || state.bits() as f32 / 4e6 - 2.0;
        let (head, rows) = (32 * blocks, (window + 10).next_multiple_of(wick_kernels::KEY_TILE));
        let cells = Cells::new(rows, head, to, &mut random);
        let queries: Vec<f32> = (0..group * head).map(|_| random() / 2.0).collect();
        let view = KvView { cells: cells.q8_0(), head, from: to.saturating_sub(window), to };
        let mut found = vec![f32::NAN; group * head];
        Kernels::scalar().attention()(&queries, &view, &mut found);
        let KvCells::Q8_0 { keys, values } = view.cells else { unreachable!() };
        for (query, found) in queries.chunks(head).zip(found.chunks(head)) {
            let dot = |p| -> f32 { (0..head).map(|i| query[i] * keys.key(head, p % rows, i)).sum() };
            let score = |p| (f64::from(dot(p)) / (head as f64).sqrt()).exp();
            let scores: Vec<f64> = (view.from..to).map(score).collect();
            let total: f64 = scores.iter().sum();
            for (i, found) in found.iter().enumerate() {
                let mean = |(p, score)| score / total * f64::from(values.value(head, p % rows, i));
                let expected: f64 = (view.from..to).zip(&scores).map(mean).sum();
                prop_assert!((f64::from(*found) - expected).abs() < 0.05, "{expected} expected, {found} found");
            }
        }
    }

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

/// Keys and values in both formats.
struct Cells {
    keys: Vec<f16>,
    values: Vec<f16>,
    /// Quants and scales of keys and of values; none if the size of a head is no multiple of 32.
    q8_0: [(Vec<i8>, Vec<f16>); 2],
}

impl Cells {
    /// Rows that hold `positions` positions; the others hold what no key or value is.
    fn new(rows: usize, head: usize, positions: usize, mut random: impl FnMut() -> f32) -> Cells {
        let (keys, values) = (vec![f16::NAN; rows * head], vec![f16::NAN; rows * head]);
        let empty = || (vec![-128; rows * head], vec![f16::NAN; rows * head / 32]);
        let mut cells = Cells { keys, values, q8_0: [empty(), empty()] };
        for row in 0..rows.min(positions) {
            let [key, value] = [(); 2].map(|()| Vec::from_iter((0..head).map(|_| random())));
            let narrow = Kernels::scalar().narrow();
            narrow(&key, &mut cells.keys[row * head..][..head]);
            narrow(&value, &mut cells.values[row * head..][..head]);
            if head.is_multiple_of(32) {
                let [keys, values] =
                    cells.q8_0.each_mut().map(|(quants, scales)| Q8CellsMut { quants, scales });
                store_key_q8_0(keys, row, &key);
                store_value_q8_0(values, row, &value);
            }
        }
        cells
    }

    fn f16(&self) -> KvCells<'_> {
        KvCells::F16 { keys: &self.keys, values: &self.values }
    }

    fn q8_0(&self) -> KvCells<'_> {
        let [keys, values] =
            self.q8_0.each_ref().map(|(quants, scales)| Q8Cells { quants, scales });
        KvCells::Q8_0 { keys, values }
    }
}

/// A generator of numbers that look random.
struct Random(u32);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    /// A number around 0, of any size from very small to large, or 0.
    fn float(&mut self) -> f32 {
        let size = [0.0, 1e-30, 1e-3, 1.0, 1.0, 1.0, 300.0][self.bits() as usize % 7];
        (self.bits() as f32 / 4e6 - 2.0) * size
    }

    /// Blocks of any bits, with scales that are numbers.
    fn blocks(&mut self, format: Format, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..count * format.block_bytes()).map(|_| self.bits() as u8).collect();
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            for place in half_places(format) {
                let value = f16::from_f32(self.float().clamp(-300.0, 300.0));
                block[*place..][..2].copy_from_slice(&value.to_le_bytes());
            }
            if format == Format::F32 || format == Format::BF16 {
                let value = self.float().to_le_bytes();
                block.copy_from_slice(&value[4 - block.len()..]);
            }
        }
        bytes
    }

    /// An activation row in every form, with some of its blocks and values zero.
    fn activation(&mut self, layout: RowLayout, sparse: bool) -> Vec<f32> {
        let mut slab = vec![0.0; layout.stride()];
        for block in slab[..layout.cols()].chunks_mut(32) {
            if sparse && self.bits().is_multiple_of(4) {
                continue;
            }
            for v in block {
                *v = if sparse && !self.bits().is_multiple_of(4) { 0.0 } else { self.float() };
            }
        }
        Kernels::scalar().encode()(&layout, &mut slab);
        slab
    }

    /// An activation row of values of one size, in every form, with one sign or with both.
    fn extremes(&mut self, layout: RowLayout, mixed: bool) -> Vec<f32> {
        let mut slab = vec![0.0; layout.stride()];
        let sign = |random: &mut Random| if random.bits().is_multiple_of(2) { -3.0 } else { 3.0 };
        let one = sign(self);
        slab[..layout.cols()].fill_with(|| if mixed { sign(self) } else { one });
        Kernels::scalar().encode()(&layout, &mut slab);
        slab
    }
}

/// Where a block has half-precision numbers.
fn half_places(format: Format) -> &'static [usize] {
    match format {
        Format::F32 | Format::BF16 => &[],
        Format::F16 | Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
    }
}

const BOTH: Encodings = Encodings { q8_0: true, q8_k: true };

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Products with matrices of every format and layout.
    #[test]
    fn variants_multiply_alike(
        seed in any::<u32>(), groups in 1usize..5, odd in 0usize..8, blocks in 1usize..20, tokens in 1usize..7,
    ) {
        let mut random = Random(seed);
        for format in Format::ALL {
            // Only a layout that groups rows demands their number to be a multiple.
            let rows = groups * 8 + if format == Format::Q4_0 { 0 } else { odd };
            // K-quants have whole blocks of 256; plain formats any number of columns.
            let cols = match format.block_len() {
                1 => blocks * 13,
                32 => blocks * 32,
                _ => blocks.div_ceil(8) * 256,
            };
            let layout = RowLayout::new(cols, BOTH);
            let weights = random.blocks(format, rows * cols / format.block_len());
            let slabs: Vec<_> = (0..tokens).map(|_| random.activation(layout, false)).collect();
            let xs: Vec<_> = slabs.iter().map(|slab| layout.view(slab)).collect();
            let arrangements = match format {
                Format::Q4_0 => &[Layout::Rows, Layout::Grouped][..],
                _ => &[Layout::Rows],
            };
            let mut expected = vec![f32::NAN; tokens * rows];
            Kernels::scalar().matmul(format, Layout::Rows).unwrap()(&weights, &xs, &mut expected);
            for (kernels, arrangement) in all_kernels().into_iter().flat_map(|k| arrangements.iter().map(move |a| (k, *a))) {
                let mut arranged = weights.clone();
                if arrangement != Layout::Rows {
                    arrangement.arrange(cols, &weights, &mut arranged);
                }
                let mut found = vec![f32::NAN; tokens * rows];
                kernels.matmul(format, arrangement).unwrap()(&arranged, &xs, &mut found);
                prop_assert_eq!(bits(&found), bits(&expected), "{} {} {}", kernels.name(), format, arrangement);
            }
        }
    }

    /// Products of bits that are all set, all clear or the highest alone in each byte (weights,
    /// their scales and minimums of largest size) with activations of largest size.
    #[test]
    fn variants_multiply_extremes_alike(
        seed in any::<u32>(), rows in 1usize..10, blocks in 1usize..4, tokens in 1usize..6,
    ) {
        let mut random = Random(seed);
        let cols = blocks * 256;
        let layout = RowLayout::new(cols, BOTH);
        let slabs: Vec<_> = (0..tokens).map(|t| random.extremes(layout, t != 0)).collect();
        let xs: Vec<_> = slabs.iter().map(|slab| layout.view(slab)).collect();
        for format in Format::ALL.into_iter().filter(|format| format.block_len() > 1) {
            for byte in [0x00, 0x7F, 0x80, 0x81, 0xFF] {
                let mut weights = vec![byte; rows * cols / format.block_len() * format.block_bytes()];
                for block in weights.chunks_exact_mut(format.block_bytes()) {
                    for place in half_places(format) {
                        block[*place..][..2].copy_from_slice(&f16::from_f32(0.7).to_le_bytes());
                    }
                }
                let mut expected = vec![f32::NAN; tokens * rows];
                Kernels::scalar().matmul(format, Layout::Rows).unwrap()(&weights, &xs, &mut expected);
                for kernels in all_kernels() {
                    let mut found = vec![f32::NAN; tokens * rows];
                    kernels.matmul(format, Layout::Rows).unwrap()(&weights, &xs, &mut found);
                    prop_assert_eq!(bits(&found), bits(&expected), "{} {} {:#x}", kernels.name(), format, byte);
                }
            }
        }
    }

    /// The same in the layouts of Q4_0, whose kernels let sums in 16 bits overflow on the way.
    #[test]
    fn variants_multiply_arranged_extremes_alike(
        seed in any::<u32>(), runs in 1usize..7, blocks in 1usize..9, tokens in 1usize..6,
    ) {
        let mut random = Random(seed);
        let (rows, cols) = (runs * 32, blocks * 32);
        let layout = RowLayout::new(cols, BOTH);
        let slabs: Vec<_> = (0..tokens).map(|t| random.extremes(layout, t != 0)).collect();
        let xs: Vec<_> = slabs.iter().map(|slab| layout.view(slab)).collect();
        let chosen: Vec<u32> = (0..rows as u32).collect();
        for byte in [0x00, 0x0F, 0x77, 0x88, 0xFF] {
            let mut weights = vec![byte; rows * blocks * 18];
            for block in weights.chunks_exact_mut(18) {
                block[..2].copy_from_slice(&f16::from_f32(random.float()).to_le_bytes());
            }
            let mut expected = vec![f32::NAN; tokens * rows];
            Kernels::scalar().matmul(Format::Q4_0, Layout::Rows).unwrap()(&weights, &xs, &mut expected);
            for (kernels, arrangement) in all_kernels().into_iter().flat_map(|k| {
                [Layout::Grouped, Layout::Split, Layout::Columns].map(|arrangement| (k, arrangement))
            }) {
                let mut arranged = vec![0; weights.len()];
                arrangement.arrange(cols, &weights, &mut arranged);
                let mut found = vec![f32::NAN; tokens * rows];
                for (x, found) in xs.iter().zip(found.chunks_mut(rows)) {
                    match arrangement {
                        Layout::Split => kernels.pick_rows()(&arranged, &chosen, x, found),
                        Layout::Columns => kernels.sum_columns()(&arranged, x, 0..rows, found),
                        _ => {}
                    }
                }
                if let Some(product) = kernels.matmul(Format::Q4_0, arrangement) {
                    product(&arranged, &xs, &mut found);
                }
                prop_assert_eq!(bits(&found), bits(&expected), "{} {} {:#x}", kernels.name(), arrangement, byte);
            }
        }
    }

    /// Products with chosen rows, and with activations that are mostly zero.
    #[test]
    fn variants_skip_alike(seed in any::<u32>(), runs in 1usize..5, blocks in 1usize..20, picked in 0usize..20) {
        let mut random = Random(seed);
        let (rows, cols) = (runs * 32, blocks * 32);
        let layout = RowLayout::new(cols, BOTH);
        let weights = random.blocks(Format::Q4_0, rows * blocks);
        let slab = random.activation(layout, true);
        let x = layout.view(&slab);
        let mut dense = vec![f32::NAN; rows];
        Kernels::scalar().matmul(Format::Q4_0, Layout::Rows).unwrap()(&weights, &[x], &mut dense);

        let mut split = vec![0; weights.len()];
        Layout::Split.arrange(cols, &weights, &mut split);
        let chosen: Vec<u32> = (0..picked).map(|_| random.bits() % rows as u32).collect();
        let expected: Vec<f32> = chosen.iter().map(|row| dense[*row as usize]).collect();
        let mut columns = vec![0; weights.len()];
        Layout::Columns.arrange(cols, &weights, &mut columns);
        let mut drawn = vec![0; sketch_bytes(rows, cols).unwrap()];
        sketch(Format::Q4_0, cols, &weights, &mut drawn);
        let spreads: Vec<f32> = (0..blocks).map(|_| random.float().abs()).collect();
        let mut bounds = vec![f32::NAN; rows];
        Kernels::scalar().bound_rows()(&drawn, 0..rows, &x, &spreads, &mut bounds);
        for kernels in all_kernels() {
            let middle = random.bits() as usize % (rows / GROUP + 1) * GROUP;
            let mut found = vec![f32::NAN; rows];
            kernels.bound_rows()(&drawn, 0..middle, &x, &spreads, &mut found[..middle]);
            kernels.bound_rows()(&drawn, middle..rows, &x, &spreads, &mut found[middle..]);
            prop_assert_eq!(bits(&found), bits(&bounds), "{}", kernels.name());

            let mut found = vec![f32::NAN; picked];
            kernels.pick_rows()(&split, &chosen, &x, &mut found);
            prop_assert_eq!(bits(&found), bits(&expected), "{}", kernels.name());

            let mut found = vec![f32::NAN; rows];
            let middle = random.bits() as usize % (runs + 1) * 32;
            let (first, second) = found.split_at_mut(middle);
            kernels.sum_columns()(&columns, &x, 0..middle, first);
            kernels.sum_columns()(&columns, &x, middle..rows, second);
            prop_assert_eq!(bits(&found), bits(&dense), "{}", kernels.name());
        }
    }

    /// Values of every size, infinities and what is no number; some lie halfway between two halves.
    #[test]
    fn variants_narrow_alike(bits in prop::collection::vec(any::<u32>(), 0..70), halves in any::<bool>()) {
        let mask = if halves { 0xFFFF_F000 } else { u32::MAX };
        let values: Vec<f32> = bits.iter().map(|bits| f32::from_bits(bits & mask)).collect();
        let expected: Vec<u16> = values.iter().map(|v| f16::from_f32(*v).to_bits()).collect();
        for kernels in all_kernels() {
            let mut found = vec![f16::ZERO; values.len()];
            kernels.narrow()(&values, &mut found);
            let found: Vec<u16> = found.iter().map(|half| half.to_bits()).collect();
            prop_assert_eq!(&found, &expected, "{}", kernels.name());
        }
    }

    /// Attention over both formats. Rows that are not attended to hold anything.
    #[test]
    fn variants_attend_alike(
        seed in any::<u32>(), head in 1usize..80, blocks in 1usize..6, group in 1usize..20, to in 1usize..400,
        window in 1usize..300, size in prop::sample::select(&[1.0, 1e-6, 1e4][..]),
    ) {
        let rows = (window + 10).next_multiple_of(wick_kernels::KEY_TILE);
        let from = to.saturating_sub(window);
        for head in [head, 32 * blocks] {
            let mut random = Random(seed);
            let cells = Cells::new(rows, head, to, || random.float().clamp(-4.0, 4.0) * size);
            let queries: Vec<f32> = (0..group * head).map(|_| random.float()).collect();
            let views = [Some(cells.f16()), head.is_multiple_of(32).then(|| cells.q8_0())];
            for cells in views.into_iter().flatten() {
                let view = KvView { cells, head, from, to };
                let mut expected = vec![f32::NAN; group * head];
                Kernels::scalar().attention()(&queries, &view, &mut expected);
                prop_assert!(expected.iter().all(|y| y.is_finite()));
                for kernels in all_kernels() {
                    let mut found = vec![f32::NAN; group * head];
                    kernels.attention()(&queries, &view, &mut found);
                    prop_assert_eq!(bits(&found), bits(&expected), "{}, head {}", kernels.name(), head);
                }
            }
        }
    }

    /// A head's values do not depend on the heads that it is computed with.
    #[test]
    fn heads_attend_alone_as_together(
        seed in any::<u32>(), blocks in 1usize..5, group in 2usize..12, some in 1usize..8, to in 1usize..300,
    ) {
        let head = 32 * blocks;
        let rows = to.next_multiple_of(wick_kernels::KEY_TILE);
        let mut random = Random(seed);
        let cells = Cells::new(rows, head, to, || random.float());
        let queries: Vec<f32> = (0..group * head).map(|_| 4.0 * random.float()).collect();
        for (cells, kernels) in [cells.f16(), cells.q8_0()].into_iter().flat_map(|cells| {
            all_kernels().into_iter().map(move |kernels| (cells, kernels))
        }) {
            let view = KvView { cells, head, from: 0, to };
            let (mut together, mut apart) = (vec![f32::NAN; group * head], vec![f32::NAN; group * head]);
            kernels.attention()(&queries, &view, &mut together);
            for (queries, out) in queries.chunks(some * head).zip(apart.chunks_mut(some * head)) {
                kernels.attention()(queries, &view, out);
            }
            prop_assert_eq!(bits(&apart), bits(&together), "{}", kernels.name());
        }
    }

    /// Blocks of 32 whose values tie between quants, vanish or leave the range of their scales.
    #[test]
    fn variants_encode_odd_blocks_alike(seed in any::<u32>()) {
        let mut random = Random(seed);
        let layout = RowLayout::new(512, BOTH);
        let mut expected = vec![0.0; layout.stride()];
        for block in expected[..512].chunks_mut(32) {
            // Of the first, halves of quants: with a largest magnitude of 127, the scale is 1.
            let size = [127.0, 1e-38, 1e-44, 3e38, 0.0, 1.0][random.bits() as usize % 6];
            for v in block.iter_mut() {
                let float = random.bits() as f32 / 8_388_608.0 - 1.0;
                *v = if size == 127.0 { (float * 254.0).trunc() / 2.0 } else { float * size };
            }
            let odd = [127.0, -127.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, 1e-45];
            if random.bits().is_multiple_of(2) {
                block[random.bits() as usize % 32] = odd[random.bits() as usize % odd.len()];
            }
        }
        let values = expected[..512].to_vec();
        Kernels::scalar().encode()(&layout, &mut expected);
        for kernels in all_kernels() {
            let mut found = vec![f32::NAN; layout.stride()];
            found[..512].copy_from_slice(&values);
            kernels.encode()(&layout, &mut found);
            prop_assert_eq!(bits(&found), bits(&expected), "{}", kernels.name());
        }
    }

    /// Encoding and the addition of rows.
    #[test]
    fn variants_do_the_rest_alike(seed in any::<u32>()) {
        let mut random = Random(seed);
        let layout = RowLayout::new(512, BOTH);
        let encoded = random.activation(layout, seed % 2 == 0);
        for kernels in all_kernels() {
            let mut found = vec![f32::NAN; layout.stride()];
            found[..512].copy_from_slice(&encoded[..512]);
            kernels.encode()(&layout, &mut found);
            prop_assert_eq!(bits(&found), bits(&encoded), "{}", kernels.name());

            for format in Format::ALL {
                let row = random.blocks(format, 512 / format.block_len());
                let (mut expected, mut found) = (encoded[..512].to_vec(), encoded[..512].to_vec());
                scalar::axpy(format, &row, 0.75, &mut expected);
                kernels.axpy()(format, &row, 0.75, &mut found);
                prop_assert_eq!(bits(&found), bits(&expected), "{} {}", kernels.name(), format);
            }
            kernels.prefetch()(&[0; 100]);
        }
    }

    #[test]
    fn exp_is_close(x in -100f32..88.0) {
        let (found, expected) = (f64::from(scalar::exp(x)), f64::from(x).exp());
        let tolerance = if x < -87.0 { 2e-38 } else { expected * 2.5e-7 };
        prop_assert!((found - expected).abs() <= tolerance, "{x}: {expected} expected, {found} found");
    }
}

#[test]
fn exp_keeps_its_ends() {
    assert_eq!((scalar::exp(0.0), scalar::exp(f32::NEG_INFINITY)), (1.0, 0.0));
    assert!(scalar::exp(f32::NAN).is_nan() && scalar::exp(f32::INFINITY) > 1e38);
}
