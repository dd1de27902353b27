//! Pieces of arrays. Arrays are halved down to pieces of a fixed size: any thread may take a half, and the result is the same with any
//! count of threads.

use crate::cpu::number::Number;

/// The elements of one piece: large enough that the work outweighs the cost of another thread.
pub(crate) const PIECE: usize = 64 * 1024;

/// Calls `work` on the pieces of an array, each with the index of its first number. Pieces end where blocks end.
pub(crate) fn pieces<F: Number>(values: &mut [F], first: usize, work: &(impl Fn(usize, &mut [F]) + Sync)) {
    match half(values.len()).filter(|_| F::FAST) {
        None => work(first, values),
        Some(at) => {
            let (values, more) = values.split_at_mut(at);
            join(|| pieces(values, first, work), || pieces(more, first + at, work));
        }
    }
}

/// The element at which to split a tensor, a multiple of the piece. `None`: the tensor is one piece.
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
