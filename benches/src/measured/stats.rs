//! What many samples say, and what they do not.

use serde::Serialize;

/// Samples of one figure, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// How many.
    pub samples: usize,
    /// The least.
    pub min_ms: f64,
    /// The middle one.
    pub median_ms: f64,
    /// What nine of ten do not exceed.
    pub p90_ms: f64,
    /// What 99 of 100 do not exceed.
    pub p99_ms: f64,
    /// The greatest.
    pub max_ms: f64,
    /// Bounds of the median that hold with a probability of at least 95 %,
    /// whatever the distribution; `None` for fewer than six samples, which have
    /// none.
    pub median_ci95_ms: Option<[f64; 2]>,
    /// All of them, sorted.
    pub values_ms: Vec<f64>,
}

impl Summary {
    /// `None` without samples.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut values_ms = values.to_vec();
        values_ms.sort_by(f64::total_cmp);
        let (&min_ms, &max_ms) = (values_ms.first()?, values_ms.last()?);
        Some(Self {
            samples: values_ms.len(),
            min_ms,
            median_ms: median(&values_ms),
            p90_ms: percentile(&values_ms, 90),
            p99_ms: percentile(&values_ms, 99),
            max_ms,
            median_ci95_ms: median_bounds(values_ms.len())
                .map(|[low, high]| [values_ms[low], values_ms[high]]),
            values_ms,
        })
    }

    /// Whether the medians of two figures can be told apart: their intervals do
    /// not overlap. `None` if there are too few samples for intervals.
    pub fn is_apart_from(&self, other: &Self) -> Option<bool> {
        let ([low, high], [other_low, other_high]) = (self.median_ci95_ms?, other.median_ci95_ms?);
        Some(high < other_low || other_high < low)
    }
}

/// Of sorted values, the mean of the two middle ones if there are two.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// The nearest rank: the least value that `percent` of all do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted[rank.max(1) - 1]
}

/// How improbable it may be that the median lies outside on either side.
const TAIL: f64 = 0.025;

/// Where in `n` sorted samples the bounds of the median's confidence interval
/// are. The number of samples below the median is binomial with p = 1/2: the
/// interval leaves out as many order statistics on each side as keep the
/// probability of missing the median below [`TAIL`].
#[allow(clippy::cast_precision_loss)]
fn median_bounds(n: usize) -> Option<[usize; 2]> {
    let count = n as f64;
    // Logarithms, for 2^-n is nothing from n = 1075 on.
    let mut log_term = -count * std::f64::consts::LN_2;
    let mut below = 0.0;
    let mut left_out = 0;
    for k in 0..n / 2 {
        below += log_term.exp();
        if below > TAIL {
            break;
        }
        left_out = k + 1;
        log_term += ((count - k as f64) / (k as f64 + 1.0)).ln();
    }
    (left_out > 0).then(|| [left_out - 1, n - left_out])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(values: impl IntoIterator<Item = u32>) -> Summary {
        let values: Vec<_> = values.into_iter().map(f64::from).collect();
        Summary::of(&values).unwrap()
    }

    fn text(value: impl std::fmt::Debug) -> String {
        format!("{value:?}")
    }

    #[test]
    fn hundred_samples() {
        let s = summary((1..=100).rev());
        assert_eq!(
            text((
                s.samples,
                s.min_ms,
                s.median_ms,
                s.p90_ms,
                s.p99_ms,
                s.max_ms
            )),
            "(100, 1.0, 50.5, 90.0, 99.0, 100.0)"
        );
    }

    #[test]
    fn few_samples() {
        let s = summary([7]);
        assert_eq!(
            text((s.median_ms, s.p90_ms, s.p99_ms, s.median_ci95_ms)),
            "(7.0, 7.0, 7.0, None)"
        );
        assert_eq!(text(summary([1, 2, 3]).median_ms), "2.0");
        assert_eq!(Summary::of(&[]), None);
    }

    /// The ranks in tables of the sign test's interval (Conover, Practical
    /// Nonparametric Statistics), counted from one there.
    #[test]
    fn bounds_are_those_of_the_tables() {
        assert_eq!(median_bounds(5), None);
        for (n, [low, high]) in [
            (6, [1, 6]),
            (10, [2, 9]),
            (20, [6, 15]),
            (30, [10, 21]),
            (100, [40, 61]),
        ] {
            assert_eq!(median_bounds(n), Some([low - 1, high - 1]), "{n}");
        }
        let [low, high] = median_bounds(10_000).unwrap();
        assert!(
            low.abs_diff(4901) < 3 && high.abs_diff(5098) < 3,
            "{low} {high}"
        );
    }

    #[test]
    fn overlap_is_not_apart() {
        let first = summary(0..20);
        assert_eq!(first.is_apart_from(&summary(100..120)), Some(true));
        assert_eq!(first.is_apart_from(&summary(5..25)), Some(false));
        assert_eq!(first.is_apart_from(&summary([1, 2])), None);
    }
}
