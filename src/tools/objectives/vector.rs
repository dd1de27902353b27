//! Sums and products of slices, in lanes that the compiler can put into vector registers, with the widest registers of the processor.
//! Products and sums are never contracted, so that the bits do not depend on the registers.

use crate::optim::rule::Real;

/// Lanes that are summed side by side. Rows are padded to whole multiples, so that they have no tails.
pub(super) const LANES: usize = 8;

/// Σ a·b
#[inline(always)]
pub(super) fn dot<F: Real>(a: &[F], b: &[F]) -> F {
    let mut sums = [F::zero(); LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] = sums[lane] + a[lane] * b[lane];
        }
    }
    let rest = a_rest.iter().zip(b_rest).fold(F::zero(), |sum, (a, b)| sum + *a * *b);
    sums.iter().fold(rest, |sum, lane| sum + *lane)
}

/// Σ a·b·c of padded rows.
#[inline(always)]
pub(super) fn dot3<F: Real>(a: &[F], b: &[F], c: &[F]) -> F {
    let mut sums = [F::zero(); LANES];
    let chunks = a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0).zip(c.as_chunks::<LANES>().0);
    for ((a, b), c) in chunks {
        for lane in 0..LANES {
            sums[lane] = sums[lane] + a[lane] * b[lane] * c[lane];
        }
    }
    sums.iter().fold(F::zero(), |sum, lane| sum + *lane)
}

/// `to += scale · from`
#[inline(always)]
pub(super) fn add<F: Real>(to: &mut [F], scale: F, from: &[F]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *to + scale * *from;
    }
}

/// `to += scale · a·b`
#[inline(always)]
pub(super) fn add_product<F: Real>(to: &mut [F], scale: F, a: &[F], b: &[F]) {
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        *to = *to + scale * (*a * *b);
    }
}

/// The largest magnitude; NaN does not count.
#[inline(always)]
pub(super) fn largest<F: Real>(values: &[F]) -> F {
    let larger = |a: F, b: F| if b > a { b } else { a };
    let mut most = [F::zero(); LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            most[lane] = larger(most[lane], chunk[lane].abs());
        }
    }
    most.into_iter().chain(rest.iter().map(|x| x.abs())).fold(F::zero(), larger)
}

/// The hyperbolic tangent of each number. In f32 the error is at most 3e-7: the function takes Lambert's continued fraction at an eighth of
/// the argument, where five terms are exact to the last bits, and doubles the argument three times. In f64 it calls the standard library.
#[inline(always)]
pub(super) fn tanh<F: Real>(values: &mut [F]) {
    let of = F::from_f64;
    if size_of::<F>() > size_of::<f32>() {
        return values.iter_mut().for_each(|x| *x = x.tanh());
    }
    let (most, one, two) = (of(10.0), F::one(), of(2.0)); // beyond ±10, the tanh in f32 is exactly ±1
    for x in values {
        let inside = if *x > most { most } else { *x };
        let a = (if inside < -most { -most } else { inside }) * of(0.125);
        let z = a * a;
        let above = a * (of(945.0) + z * (of(105.0) + z));
        let below = of(945.0) + z * (of(420.0) + z * of(15.0));
        let mut t = above / below;
        for _ in 0..3 {
            t = two * t / (one + t * t);
        }
        *x = t;
    }
}

/// Runs `work`, compiled for the widest vector registers of this processor. Functions that `work` calls must be inlined into it.
#[inline]
pub(super) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the features, as just checked.
            return unsafe { avx2(work) };
        }
    }
    work()
}

/// The sign; 0 at 0, NaN for NaN.
pub(super) fn sign<F: Real>(x: F) -> F {
    if x == F::zero() { x } else { x.signum() }
}
