//! Figures, as a table for people or as JSON.

use std::time::Duration;

/// The value at a quantile, 0 to 1, of figures in any order.
pub(crate) fn quantile(figures: &mut [f64], at: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1);
    figures
        .get((last as f64 * at).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

/// Nanoseconds of one of `count`.
pub(crate) fn each_ns(took: Duration, count: usize) -> f64 {
    took.as_nanos() as f64 / count as f64
}

/// One line of the table: what, how much, its floor, the ratio, what is aimed at.
pub(crate) fn line(what: &str, value: f64, unit: &str, floor: Option<(f64, &str)>, aim: &str) {
    match floor {
        Some((floor, of)) => println!(
            "{what:<34} {value:>10.1} {unit:<3}  floor {floor:>9.1} {unit:<3} ({of}), ratio {:.2}, aim {aim}",
            value / floor
        ),
        None => println!("{what:<34} {value:>10.1} {unit:<3}  aim {aim}"),
    }
}
