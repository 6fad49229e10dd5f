//! From values to places on an axis.

/// A linear axis from zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// The value at the end.
    greatest: f64,
    /// Where zero and the end are.
    from: f64,
    to: f64,
    step: f64,
}

impl Scale {
    /// An axis on which all `values` have a place.
    pub(super) fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let greatest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let greatest = if greatest > 0.0 { greatest } else { 1.0 };
        let step = step(greatest);
        Self {
            greatest: (greatest / step).ceil() * step,
            from,
            to,
            step,
        }
    }

    /// Where a value is.
    pub(super) fn at(self, value: f64) -> f64 {
        self.from + value / self.greatest * (self.to - self.from)
    }

    /// Values to name on the axis.
    pub(super) fn ticks(self) -> impl Iterator<Item = f64> {
        let count = (self.greatest / self.step).round() as u32;
        (0..=count).map(move |n| f64::from(n) * self.step)
    }
}

/// A round number of which some five make up `greatest`.
fn step(greatest: f64) -> f64 {
    let magnitude = 10_f64.powf((greatest / 5.0).log10().floor());
    let candidates = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude);
    let fits = |step: &f64| greatest / step <= 6.0;
    candidates.into_iter().find(fits).unwrap_or(greatest)
}

/// A number with as many digits as it deserves.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The same without needless zeros, for an axis.
pub(super) fn label(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_begins_at_zero_and_has_a_place_for_all() {
        for greatest in [0.03, 0.9, 1.0, 7.0, 99.0, 101.8, 12_345.0] {
            let scale = Scale::new([greatest, 0.01].into_iter(), 100.0, 500.0);
            let ticks: Vec<_> = scale.ticks().collect();
            assert!((3..=8).contains(&ticks.len()), "{greatest}: {ticks:?}");
            let place = scale.at(greatest);
            assert!((300.0..=500.0001).contains(&place), "{greatest}: {place}");
            assert!((scale.at(0.0) - 100.0).abs() < 1e-9);
        }
    }

    #[test]
    fn axis_of_nothing_is_an_axis() {
        let scale = Scale::new([f64::NAN].into_iter(), 0.0, 10.0);
        assert!(scale.ticks().count() > 1);
    }

    #[test]
    fn labels_are_short() {
        assert_eq!([0.0, 0.5, 20.0].map(label), ["0", "0.5", "20"]);
        assert_eq!([0.5, 12.34, 1234.5].map(number), ["0.50", "12.3", "1234"]);
    }
}
