//! Sums and products of slices, in lanes that the compiler can put into vector registers, and the widest registers that
//! the processor has. Products and sums are never contracted, so that the bits do not depend on the registers.

use num_traits::Float;

/// Lanes that are summed side by side. Rows that are padded to whole multiples have no tails.
pub(super) const LANES: usize = 8;

/// Σ a·b
#[inline(always)]
pub(super) fn dot<F: Float>(a: &[F], b: &[F]) -> F {
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
pub(super) fn dot3<F: Float>(a: &[F], b: &[F], c: &[F]) -> F {
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
pub(super) fn add<F: Float>(to: &mut [F], scale: F, from: &[F]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *to + scale * *from;
    }
}

/// `to += scale · a·b`
#[inline(always)]
pub(super) fn add_product<F: Float>(to: &mut [F], scale: F, a: &[F], b: &[F]) {
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        *to = *to + scale * (*a * *b);
    }
}

/// Runs `work` as compiled for the widest vector registers that this processor has. What it calls must be inlined into it.
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
