//! Distances between numbers.

/// The distance from |x| to the next f32.
pub(crate) fn ulp32(x: f64) -> f64 {
    let x = (x.abs() as f32).max(f32::MIN_POSITIVE);
    f64::from(x.next_up()) - f64::from(x)
}
