//! Whether a trajectory in f32 follows one in f64.

/// A trajectory may drift by three ulp of the number per step, and by a share of the path that the number has travelled: the golden
/// files' 5e-5, and twice that because a clip multiplies two roundings into every gradient.
#[track_caller]
pub(crate) fn close(case: &str, steps: u32, got: &[f32], want: &[f64], path: &[f64]) {
    assert!(got.len() == want.len() && path.len() == want.len(), "{case}");
    for (i, ((got, want), path)) in got.iter().zip(want).zip(path).enumerate() {
        let limit = f64::from(3 * steps) * f64::from(f32::EPSILON) * want.abs() + 1e-4 * path + 1e-12;
        let error = (f64::from(*got) - want).abs();
        assert!(error <= limit, "{case}: element {i} is {got}, want {want}, limit {limit:e}, off by {error:e}");
    }
}
