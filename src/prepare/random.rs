//! Reproducible random numbers.

/// A generator of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The generator of a place, which numbers name: no two places share their numbers, so rows can
    /// be drawn in any order.
    pub(crate) fn new(place: &[u64]) -> Random {
        let mix = |random: Random, number: &u64| Random(Random(random.0 ^ number).bits());
        place.iter().fold(Random(0), mix)
    }

    /// The next 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to below 1, evenly distributed.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number of mean 0 and standard deviation 1: the sum of four evenly distributed ones, which
    /// is nearly normal but never beyond 3.5, and fast.
    pub(crate) fn normal(&mut self) -> f32 {
        /// Of the sum of four numbers below 2^16.
        const MEAN: i32 = 2 * 65_535;
        const DEVIATION: f32 = 37_837.23;
        let bits = self.bits();
        let sum: i32 = [0, 16, 32, 48].iter().map(|shift| (bits >> shift & 0xffff) as i32).sum();
        (sum - MEAN) as f32 / DEVIATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_the_moments_of_theirs() {
        let mut random = Random::new(&[1, 2]);
        let x: Vec<f64> = (0..100_000).map(|_| f64::from(random.normal())).collect();
        let moment = |n| x.iter().map(|x| x.powi(n)).sum::<f64>() / x.len() as f64;
        assert!(moment(1).abs() < 0.01 && moment(3).abs() < 0.03);
        assert!((moment(2) - 1.0).abs() < 0.01);
    }

    #[test]
    fn places_have_numbers_of_their_own() {
        let first = |place: &[u64]| Random::new(place).bits();
        let all = [first(&[1]), first(&[1, 0]), first(&[0, 1]), first(&[1, 1]), first(&[2, 1])];
        for (i, a) in all.iter().enumerate() {
            assert!(!all[..i].contains(a));
        }
        assert_eq!(first(&[3, 4]), first(&[3, 4]));
    }
}
