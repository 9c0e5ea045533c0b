//! Whether something grows while a process does the same all the time, told from looks at it at even distances.

/// Looks that it takes at least.
const LEAST: usize = 30;

/// Medians of the first and of the last third, the first fifth left out: there it warms up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    pub first: f64,
    pub last: f64,
    /// From one look to the next, by least squares.
    pub slope: f64,
}

/// `None`: these are too few looks to tell.
pub fn growth(looks: &[f64]) -> Option<Growth> {
    let warm = &looks[looks.len() / 5..];
    if looks.len() < LEAST {
        return None;
    }
    let third = warm.len() / 3;
    let (first, last) = (median(&warm[..third]), median(&warm[warm.len() - third..]));
    Some(Growth { first, last, slope: slope(warm) })
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn slope(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let (mean_x, mean_y) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count);
    let (mut up, mut down) = (0.0, 0.0);
    for (x, y) in values.iter().enumerate() {
        up += (x as f64 - mean_x) * (y - mean_y);
        down += (x as f64 - mean_x).powi(2);
    }
    up / down
}
