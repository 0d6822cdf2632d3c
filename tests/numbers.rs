//! Numbers at their ends: rotations and attention far back, keys and values of any size, and what is drawn. The reference is
//! double precision.

use half::f16;
use wick_core::{Arena, Candidates, Guidance, History, Sampler, Sampling};
use wick_kernels::{
    KEY_TILE, Kernels, KvCells, KvView, Q8Cells, Q8CellsMut, scalar, store_key_q8_0,
    store_value_q8_0,
};
use wick_linux::all_kernels;
use wick_tests::bits;
use wick_tests::random::Random;

/// The last position of the published models.
const LAST: usize = 32_767;

#[test]
fn rotations_are_right_at_every_distance() {
    for (dims, base) in [(128, 1.5e6f32), (64, 1e4), (2, 1.5e6)] {
        let pairs = dims / 2;
        let (mut cos, mut sin) = (vec![0.0; pairs], vec![0.0; pairs]);
        for position in [0, 1, 63, 4095, 4096, 16_384, LAST - 1, LAST] {
            scalar::rope_table(position, base, &mut cos, &mut sin);
            for i in 0..pairs {
                let angle = position as f64 * f64::from(base).powf(-2.0 * i as f64 / dims as f64);
                let off = (f64::from(cos[i]) - angle.cos()).abs();
                let off = off.max((f64::from(sin[i]) - angle.sin()).abs());
                // Half of the last place, and what double precision knows of such an angle.
                assert!(off <= 2f64.powi(-25) + 2e-11, "position {position}, pair {i}: {off}");
            }
        }
    }
}

/// A product of a query and a key depends on how far they are apart, and not on where they are.
#[test]
fn only_the_distance_matters() {
    let mut random = Random(1);
    let [query, key] = [(); 2].map(|()| Vec::from_iter((0..128).map(|_| random.float())));
    let turned = |head: &[f32], position| {
        let ([mut cos, mut sin], mut head) = ([[0.0; 64]; 2], head.to_vec());
        scalar::rope_table(position, 1.5e6, &mut cos, &mut sin);
        scalar::rope(&mut head, &cos, &sin);
        head
    };
    let product = |at, distance| -> f64 {
        let (query, key) = (turned(&query, at), turned(&key, at - distance));
        query.iter().zip(&key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum()
    };
    for distance in [0, 1, 100, 4095, 16_000] {
        let off = (product(LAST, distance) - product(distance, distance)).abs();
        assert!(off < 1e-5, "{distance}: {off}");
    }
}

/// Keys and values of one head, in Q8_0, each row by a function.
struct Cells([(Vec<i8>, Vec<f16>); 2]);

impl Cells {
    fn new(rows: usize, head: usize, mut row: impl FnMut(usize) -> [Vec<f32>; 2]) -> Cells {
        let mut cells =
            Cells([(); 2].map(|()| (vec![0; rows * head], vec![f16::ZERO; rows * head / 32])));
        for at in 0..rows {
            let [key, value] = row(at);
            let [keys, values] =
                cells.0.each_mut().map(|(quants, scales)| Q8CellsMut { quants, scales });
            store_key_q8_0(keys, at, &key);
            store_value_q8_0(values, at, &value);
        }
        cells
    }

    fn get(&self) -> [Q8Cells<'_>; 2] {
        self.0.each_ref().map(|(quants, scales)| Q8Cells { quants, scales })
    }

    fn cells(&self) -> KvCells<'_> {
        let [keys, values] = self.get();
        KvCells::Q8_0 { keys, values }
    }
}

/// A number's bits; what is no number is one value, whatever its bits.
fn canonical(floats: &[f32]) -> Vec<u32> {
    bits(&floats.iter().map(|x| if x.is_nan() { f32::NAN } else { *x }).collect::<Vec<_>>())
}

/// What every variant makes of a query, which is the same.
fn attend(query: &[f32], view: &KvView<'_>) -> Vec<f32> {
    let mut expected = vec![f32::NAN; query.len()];
    Kernels::scalar().attention()(query, view, &mut expected);
    for kernels in all_kernels() {
        let mut found = vec![f32::NAN; query.len()];
        kernels.attention()(query, view, &mut found);
        assert_eq!(canonical(&found), canonical(&expected), "{}", kernels.name());
    }
    expected
}

/// Scores that are all alike add up most terms: the mean of the longest context, with values that have one sign.
#[test]
fn the_longest_context_is_summed_well() {
    const HEAD: usize = 32;
    let rows = LAST + 1;
    for spread in [0.0, 4.0] {
        let mut random = Random(7);
        let mut row = |scale: f32, least: f32| -> Vec<f32> {
            (0..HEAD).map(|_| least + scale * random.float()).collect()
        };
        let query = row(spread, 0.0);
        let halves: [Vec<f16>; 2] = [(1.0, 0.0), (0.5, 1.0)].map(|(scale, least)| {
            (0..rows).flat_map(|_| row(scale, least)).map(f16::from_f32).collect()
        });
        let [keys, values] = halves.each_ref().map(|cells| &cells[..]);
        let cells = KvCells::F16 { keys, values };
        let found = attend(&query, &KvView { cells, head: HEAD, from: 0, to: rows });
        let score = |key: &[f16]| -> f64 {
            let terms = key.iter().zip(&query).map(|(k, q)| f64::from(*k) * f64::from(*q));
            (terms.sum::<f64>() / (HEAD as f64).sqrt()).exp()
        };
        let scores: Vec<f64> = keys.chunks(HEAD).map(score).collect();
        let total: f64 = scores.iter().sum();
        for (i, found) in found.iter().enumerate() {
            let terms = scores.iter().zip(values.iter().skip(i).step_by(HEAD));
            let expected: f64 = terms.map(|(s, v)| s / total * f64::from(*v)).sum();
            let off = (f64::from(*found) - expected).abs();
            assert!(off < 1e-5, "spread {spread}: {expected} expected, {found} found");
        }
    }
}

/// Blocks of every size come back within half a step, as far as their scales are halves.
#[test]
fn keys_and_values_of_any_size_come_back() {
    for largest in [1e-3f32, 1.0, 255.0, 65_504.0, 1e6, 127.0 * 65_504.0] {
        let mut random = Random(3);
        let mut row = || {
            Vec::from_iter((0..64).map(|i| if i == 5 { largest } else { largest * random.float() }))
        };
        let all: Vec<[Vec<f32>; 2]> = (0..KEY_TILE).map(|_| [row(), row()]).collect();
        let cells = Cells::new(KEY_TILE, 64, |at| all[at].clone());
        let [keys, values] = cells.get();
        // The scale is rounded to eleven bits, or to the last place that a half has; it moves the largest quant most.
        let allowed = largest / 254.0 + (largest * 2f32.powi(-11)).max(127.0 * 2f32.powi(-25));
        for (at, [key, value]) in all.iter().enumerate() {
            for i in 0..64 {
                let off = (keys.key(64, at, i) - key[i]).abs();
                let off = off.max((values.value(64, at, i) - value[i]).abs());
                assert!(off <= allowed, "{largest}: {off} off");
            }
        }
    }
}

/// What is far too large, too small or no number: every variant sees the same, and what has no scale is no number either.
#[test]
fn odd_keys_and_values_are_the_same_to_all() {
    let odd = [
        0.0,
        -0.0,
        1e-45,
        1e-40,
        6e-8,
        1e-5,
        8.319e6,
        8.33e6,
        1e30,
        f32::MAX,
        f32::INFINITY,
        -f32::INFINITY,
        f32::NAN,
    ];
    for (case, odd) in odd.into_iter().enumerate() {
        for of_key in [true, false] {
            let mut random = Random(case as u64);
            let cells = Cells::new(KEY_TILE, 64, |at| {
                [true, false].map(|is_key| {
                    let mut row = Vec::from_iter((0..64).map(|_| random.float()));
                    if at % 5 == 1 && is_key == of_key {
                        row[32 + at % 32] = odd;
                    }
                    row
                })
            });
            let query = Vec::from_iter((0..2 * 64).map(|_| random.float()));
            let view = KvView { cells: cells.cells(), head: 64, from: 0, to: KEY_TILE };
            let found = attend(&query, &view);
            let is_stored = odd.abs() <= 127.0 * 65_504.0;
            let is_finite = found.iter().all(|y| y.is_finite());
            assert!(is_finite || !is_stored, "{odd}");
            // A key may also point away from the query, and count for nothing. What is no number has no size; steps look for
            // it before they store it.
            assert!(is_stored || of_key || odd.is_nan() || !is_finite, "{odd}");
        }
    }
}

/// What each id is drawn with, by the definition.
fn probabilities(logits: &[f32], sampling: &Sampling) -> Vec<f64> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k);
    }
    let best = f64::from(logits[order[0]]);
    let odds = |id: usize| ((f64::from(logits[id]) - best) / f64::from(sampling.temperature)).exp();
    let (total, mut reached) = (order.iter().map(|id| odds(*id)).sum::<f64>(), 0.0);
    let head = order.iter().position(|id| {
        reached += odds(*id);
        reached >= f64::from(sampling.top_p) * total
    });
    order.truncate(head.map_or(order.len(), |last| last + 1));
    order.retain(|id| odds(*id) >= f64::from(sampling.min_p));
    let total: f64 = order.iter().map(|id| odds(*id)).sum();
    (0..logits.len()).map(|id| if order.contains(&id) { odds(id) / total } else { 0.0 }).collect()
}

/// How often each id is drawn.
fn counts(logits: &[f32], sampling: Sampling, draws: usize) -> Vec<f64> {
    let memory = vec![0; 8 * logits.len() + 128].leak();
    let mut candidates = Candidates::new(logits.len(), &mut Arena::new(memory)).unwrap();
    let mut sampler = Sampler::new(sampling);
    let mut counts = vec![0.0; logits.len()];
    for _ in 0..draws {
        let (history, guidance) = (History::default(), Guidance::default());
        counts[sampler.sample(logits, history, guidance, &mut candidates).unwrap() as usize] += 1.0;
    }
    counts
}

/// How far counts are from what is expected, in deviations of a normal distribution (Wilson and Hilferty's approximation of
/// chi-square). Ids that hardly ever come count as one.
fn deviations(counts: &[f64], probabilities: &[f64]) -> f64 {
    let draws: f64 = counts.iter().sum();
    let (mut rare, mut square, mut cells) = ((0.0, 0.0), 0.0, 0.0);
    for (count, p) in counts.iter().zip(probabilities) {
        match p * draws {
            0.0 => assert_eq!(*count, 0.0, "what is left out is drawn"),
            expected if expected < 8.0 => rare = (rare.0 + count, rare.1 + expected),
            expected => {
                square += (count - expected).powi(2) / expected;
                cells += 1.0;
            }
        }
    }
    if rare.1 > 0.0 {
        square += (rare.0 - rare.1).powi(2) / rare.1;
        cells += 1.0;
    }
    let variance = 2.0 / (9.0 * (cells - 1.0));
    ((square / (cells - 1.0)).cbrt() - 1.0 + variance) / variance.sqrt()
}

#[test]
fn draws_have_the_probabilities_of_their_logits() {
    let mut random = Random(11);
    let logits: Vec<f32> = (0..60).map(|_| 4.0 * random.float()).collect();
    let all = Sampling { temperature: 1.0, ..Sampling::GREEDY };
    for (seed, sampling) in [
        all,
        Sampling { temperature: 0.3, ..all },
        Sampling { temperature: 3.0, ..all },
        Sampling { top_k: 12, ..all },
        Sampling { top_p: 0.8, ..all },
        Sampling { min_p: 0.1, ..all },
        Sampling { temperature: 1.6, top_k: 30, top_p: 0.9, min_p: 0.02, ..all },
    ]
    .into_iter()
    .enumerate()
    {
        let sampling = Sampling { seed: seed as u64, ..sampling };
        let expected = probabilities(&logits, &sampling);
        let found = deviations(&counts(&logits, sampling, 20_000), &expected);
        assert!(found < 4.0, "{sampling:?}: {found} deviations");
        // The measure sees an id that comes a third too often.
        let mut wrong = expected;
        let best = (0..60).max_by(|a, b| wrong[*a].total_cmp(&wrong[*b])).unwrap();
        wrong[best] *= 0.7;
        assert!(deviations(&counts(&logits, sampling, 20_000), &wrong) > 4.0, "{sampling:?}");
    }
}

/// 151,935 tokens that are each too improbable to be seen beside the first are one in 300 together.
#[test]
fn many_small_probabilities_are_not_lost() {
    let mut logits = vec![-25.5 * std::f32::consts::LN_2; 151_936];
    logits[0] = 0.0;
    let (each, rest) = (2f64.powf(-25.5), logits.len() as f64 - 1.0);
    // The sampler's random numbers are these.
    let unit = |seed: &u64| (Random(*seed).bits() >> 40) as f64 / f64::from(1 << 24);
    for seed in (0..).filter(|seed| unit(seed) > 0.997).take(12) {
        let at = unit(&seed) * (1.0 + each * rest);
        let expected = if at < 1.0 { 0 } else { 1 + ((at - 1.0) / each) as usize };
        let sampling = Sampling { temperature: 1.0, seed, ..Sampling::GREEDY };
        let found = counts(&logits, sampling, 1).iter().position(|count| *count > 0.0).unwrap();
        assert!(found.abs_diff(expected) <= 4, "{expected} expected, {found} found");
    }
}
