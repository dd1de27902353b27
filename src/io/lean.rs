//! Vectors that grow by a quarter: while one grows, it takes two and a quarter times its items, where the usual doubling takes three.

/// Adds an item.
pub(crate) fn push<T>(items: &mut Vec<T>, item: T) {
    reserve(items, 1);
    items.push(item);
}

/// Makes room for `more` items.
pub(crate) fn reserve<T>(items: &mut Vec<T>, more: usize) {
    if items.capacity() - items.len() < more {
        items.reserve_exact(more.max(items.len() / 4));
    }
}
