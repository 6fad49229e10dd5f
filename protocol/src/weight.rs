//! Weights of cgroup v2, from what the OCI specification has of cgroup v1.

/// Of `cpu.shares`. These run from 2 to 2^18 with 1024 as the default, weights from 1 to
/// 10^4 with 100 as the default. The curve through these three points is quadratic
/// in the logarithms, as runc and crun have it since 2025.
#[must_use]
pub fn of_cpu_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = f64::from(shares as u32).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            (10f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_meet_the_three_fixed_points_and_rise() {
        let points = [(2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)];
        for (shares, weight) in points {
            assert_eq!(of_cpu_shares(shares), weight);
        }
        let weights: Vec<_> = (2..=262_144).step_by(97).map(of_cpu_shares).collect();
        assert!(weights.is_sorted());
    }
}
