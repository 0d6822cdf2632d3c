//! How often neurons stay at zero and experts are chosen.

use serde::Deserialize;
use wick_core::Config;

/// What the technical report says of the published models; the file names its source.
const REPORT: &str = include_str!("report.json");

/// What a model's activations are to be like, layer by layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// The share of a chosen expert's neurons that stay at zero, for each layer.
    pub sparsity: Vec<f64>,
    /// The share of tokens that choose each expert, for each layer; sums to the active experts.
    pub frequency: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Report {
    models: Vec<Figures>,
}

/// The figures of a published model.
#[derive(Deserialize)]
struct Figures {
    neuron_sparsity: Vec<f64>,
    expert_frequency: Vec<Vec<f64>>,
}

impl Statistics {
    /// Half of the neurons at zero and every expert chosen equally often.
    pub fn even(config: &Config) -> Statistics {
        let frequency = vec![config.active as f64 / config.experts as f64; config.experts];
        Statistics { sparsity: vec![0.5; config.layers], frequency: vec![frequency; config.layers] }
    }

    /// Like the published model that has the nearer number of experts: its median neuron sparsity
    /// and its expert frequencies on the Wiki dataset (technical report, figures 4 to 6).
    ///
    /// A model of fewer layers gets those of layers spread over the published model's whole depth;
    /// of other numbers of experts, frequencies with about the same ratios of odds.
    ///
    /// # Panics
    /// If the shape has no layers or more active experts than experts.
    pub fn report(config: &Config) -> Statistics {
        let report: Report = serde_json::from_str(REPORT).expect("the figures are well formed");
        let distance = |figures: &Figures| {
            let experts = figures.expert_frequency[0].len() as f64;
            (experts / config.experts as f64).ln().abs()
        };
        let nearer = report.models.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        let figures = nearer.expect("the report has models");
        let layer = |i| spread(i, config.layers, figures.neuron_sparsity.len());
        let frequency = |i| resample(&figures.expert_frequency[layer(i)], config);
        Statistics {
            sparsity: (0..config.layers).map(|i| figures.neuron_sparsity[layer(i)]).collect(),
            frequency: (0..config.layers).map(frequency).collect(),
        }
    }
}

/// Which of `of` layers stands for layer `i` of `layers`: first for first, last for last.
fn spread(i: usize, layers: usize, of: usize) -> usize {
    match layers {
        1 => of / 2,
        _ => (i * (of - 1) + (layers - 1) / 2) / (layers - 1),
    }
}

/// The frequencies of one layer for other numbers of experts and of active ones: experts are picked
/// evenly, and all odds multiplied by what makes the sum right.
fn resample(row: &[f64], config: &Config) -> Vec<f64> {
    let &Config { experts, active, .. } = config;
    if active == experts {
        return vec![1.0; experts];
    }
    let log_odds = |e: usize| {
        let p = row[(2 * e + 1) * row.len() / (2 * experts)];
        (p / (1.0 - p)).ln()
    };
    let log_odds: Vec<f64> = (0..experts).map(log_odds).collect();
    let frequency = |shift: f64| log_odds.iter().map(move |l| 1.0 / (1.0 + (-l - shift).exp()));
    let (mut low, mut high) = (-30.0, 30.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        let too_low = frequency(middle).sum::<f64>() < active as f64;
        *(if too_low { &mut low } else { &mut high }) = middle;
    }
    frequency(0.5 * (low + high)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    fn sums_are_right(statistics: &Statistics, config: &Config) {
        assert_eq!(statistics.sparsity.len(), config.layers);
        assert_eq!(statistics.frequency.len(), config.layers);
        for row in &statistics.frequency {
            let sum: f64 = row.iter().sum();
            assert!(row.len() == config.experts && (sum - config.active as f64).abs() < 1e-6);
            assert!(row.iter().all(|f| *f > 0.0 && *f <= 1.0));
        }
    }

    #[test]
    fn published_shapes_get_the_report_as_it_is() {
        let small = Statistics::report(&Shape::SMALL.config);
        sums_are_right(&small, &Shape::SMALL.config);
        assert_eq!((small.sparsity[0], small.sparsity[31]), (0.996, 0.668));
        assert!((small.frequency[0][0] - 0.071).abs() < 1e-3);
        let large = Statistics::report(&Shape::LARGE.config);
        sums_are_right(&large, &Shape::LARGE.config);
        assert_eq!((large.sparsity[0], large.sparsity[51]), (0.996, 0.74));
    }

    #[test]
    fn other_shapes_get_what_is_like_it() {
        for text in
            ["tiny", "4b,layers=1", "4b,layers=96", "21b,experts=200,active=32", "tiny,active=16"]
        {
            let config = text.parse::<Shape>().unwrap().config;
            sums_are_right(&Statistics::report(&config), &config);
            sums_are_right(&Statistics::even(&config), &config);
        }
        assert_eq!([0, 1, 2, 3].map(|i| spread(i, 4, 32)), [0, 10, 21, 31]);
        assert_eq!((spread(0, 1, 32), spread(31, 32, 32)), (16, 31));
    }
}
