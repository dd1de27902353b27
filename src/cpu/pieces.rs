//! Arrays are halved down to pieces of a fixed size, so that threads may take the halves and the result is the same whoever takes them.

use crate::cpu::number::Number;

/// The elements of one piece: enough to outweigh handing it to another thread.
pub(crate) const PIECE: usize = 64 * 1024;

/// Hands an array out in pieces, each with the index of its first number, that are cut where blocks end.
pub(crate) fn pieces<F: Number>(values: &mut [F], first: usize, work: &(impl Fn(usize, &mut [F]) + Sync)) {
    match half(values.len()).filter(|_| F::FAST) {
        None => work(first, values),
        Some(at) => {
            let (values, more) = values.split_at_mut(at);
            join(|| pieces(values, first, work), || pieces(more, first + at, work));
        }
    }
}

/// Where to split a tensor: in whole pieces, or `None` where it is one.
pub(crate) fn half(elements: usize) -> Option<usize> {
    (elements > PIECE).then(|| elements.div_ceil(PIECE).div_ceil(2) * PIECE)
}

#[cfg(feature = "parallel")]
pub(crate) fn join<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    rayon::join(a, b)
}

#[cfg(not(feature = "parallel"))]
pub(crate) fn join<A, B>(a: impl FnOnce() -> A, b: impl FnOnce() -> B) -> (A, B) {
    (a(), b())
}
