//! Scores of what a classifier sees, and small statistics.

/// Probabilities of classes for each output of each input: `[input][output][class]`.
pub type ClassProbabilities = Vec<Vec<Vec<f64>>>;

/// Inception score (arXiv 1606.03498) without the exponential: the mean Kullback-Leibler divergence
/// of an output's classes from those of all outputs, in nats. `None` without outputs.
pub fn inception_score(probabilities: &ClassProbabilities) -> Option<f64> {
    let outputs: Vec<&Vec<f64>> = probabilities.iter().flatten().collect();
    let marginal = mean_distribution(outputs.iter().copied())?;
    mean(outputs.iter().map(|output| divergence(output, &marginal)))
}

/// Conditional inception score (arXiv 1804.04732, section 5.2), without the exponential: the mean
/// Kullback-Leibler divergence of an output's classes from those of all outputs of its input, in
/// nats. `None` without outputs.
pub fn conditional_inception_score(probabilities: &ClassProbabilities) -> Option<f64> {
    mean(probabilities.iter().flat_map(|outputs| {
        let marginal = mean_distribution(outputs.iter()).unwrap_or_default();
        outputs
            .iter()
            .map(move |output| divergence(output, &marginal))
            .collect::<Vec<_>>()
    }))
}

fn mean_distribution<'a>(distributions: impl Iterator<Item = &'a Vec<f64>>) -> Option<Vec<f64>> {
    let mut sum: Option<Vec<f64>> = None;
    let mut count = 0.0;
    for distribution in distributions {
        count += 1.0;
        match &mut sum {
            Some(sum) => sum
                .iter_mut()
                .zip(distribution)
                .for_each(|(sum, one)| *sum += one),
            None => sum = Some(distribution.clone()),
        }
    }
    sum.map(|sum| sum.into_iter().map(|sum| sum / count).collect())
}

/// Kullback-Leibler divergence in nats.
fn divergence(from: &[f64], to: &[f64]) -> f64 {
    let pairs = from.iter().zip(to).filter(|(p, _)| **p > 0.0);
    pairs.map(|(p, q)| p * (p / q).ln()).sum()
}

/// The mean; `None` without values.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values
        .into_iter()
        .fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

/// The mean and its standard error, which is 0 for a single value; `None` without values.
pub fn mean_with_error(values: &[f64]) -> Option<(f64, f64)> {
    let mean = mean(values.iter().copied())?;
    let count = values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = if count > 1.0 {
        (squares / (count - 1.0) / count).sqrt()
    } else {
        0.0
    };
    Some((mean, error))
}

/// How often a value of `low` lies below one of `high`; draws count half. 1 if the two are apart,
/// 0.5 if they cannot be told apart. `None` if one of them is empty.
pub fn share_below(low: &[f64], high: &[f64]) -> Option<f64> {
    mean(low.iter().flat_map(|low| {
        high.iter().map(move |high| match low.total_cmp(high) {
            std::cmp::Ordering::Less => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Greater => 0.0,
        })
    }))
}

/// Peak signal-to-noise ratio in decibels for a mean squared error of values in [-1, 1]; at most
/// 100, which stands for equal pictures.
pub fn decibels(mean_squared_error: f64) -> f64 {
    const EQUAL: f64 = 100.0;
    // The signal's range is 2.
    (10.0 * (4.0 / mean_squared_error).log10()).min(EQUAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_near(found: Option<f64>, expected: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn scores_of_certain_classes() {
        let certain = |class: usize| {
            let mut classes = vec![0.0; 4];
            classes[class] = 1.0;
            classes
        };
        // Every input becomes every class: as much variety within an input as over all.
        let varied = vec![(0..4).map(certain).collect::<Vec<_>>(); 3];
        assert_near(inception_score(&varied), 4f64.ln());
        assert_near(conditional_inception_score(&varied), 4f64.ln());
        // Each input becomes one class of its own: variety, but none within an input.
        let fixed: Vec<_> = (0..4).map(|class| vec![certain(class); 5]).collect();
        assert_near(inception_score(&fixed), 4f64.ln());
        assert_near(conditional_inception_score(&fixed), 0.0);
        assert_eq!(inception_score(&Vec::new()), None);
    }

    #[test]
    fn scores_by_hand() {
        let probabilities = vec![
            vec![vec![0.8, 0.2], vec![0.4, 0.6]],
            vec![vec![0.5, 0.5], vec![0.1, 0.9]],
        ];
        let kl = |p: f64, q: f64| p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
        let all = [0.8, 0.4, 0.5, 0.1].map(|p| kl(p, 0.45));
        assert_near(
            inception_score(&probabilities),
            all.iter().sum::<f64>() / 4.0,
        );
        let within = [kl(0.8, 0.6), kl(0.4, 0.6), kl(0.5, 0.3), kl(0.1, 0.3)];
        let expected = within.iter().sum::<f64>() / 4.0;
        assert_near(conditional_inception_score(&probabilities), expected);
    }

    #[test]
    fn small_statistics() {
        let (mean, error) = mean_with_error(&[1.0, 2.0, 3.0, 6.0]).unwrap();
        assert_eq!(mean, 3.0);
        assert!((error - (14.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12);
        assert_eq!(mean_with_error(&[5.0]), Some((5.0, 0.0)));
        assert_eq!(mean_with_error(&[]), None);
        assert_eq!(share_below(&[1.0, 2.0], &[3.0, 4.0]), Some(1.0));
        assert_eq!(share_below(&[1.0, 3.0], &[2.0, 3.0]), Some(0.625));
        assert_eq!(share_below(&[], &[1.0]), None);
    }

    #[test]
    fn decibels_of_known_errors() {
        // One step of 255 everywhere.
        let step = (2.0f64 / 255.0).powi(2);
        assert!((decibels(step) - 48.130_803_6).abs() < 1e-6);
        assert_eq!(decibels(0.0), 100.0);
        assert!((decibels(4.0) - 0.0).abs() < 1e-12);
    }
}
