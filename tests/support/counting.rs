//! An allocator that counts what the current thread holds, and how often it allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    LIVE.set(LIVE.get() + bytes);
    PEAK.set(PEAK.get().max(LIVE.get()));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches cells that allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller upholds the contract of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller upholds the contract of the system's allocator.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The memory of a piece of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// The most bytes that it held at once.
    pub(crate) peak: usize,
    /// The bytes that it held at its end.
    #[allow(dead_code, reason = "not every suite reads it")]
    pub(crate) held: isize,
    /// How often it allocated.
    #[allow(dead_code, reason = "not every suite reads it")]
    pub(crate) calls: usize,
}

/// Does the work and counts its memory.
pub(crate) fn counted<T>(work: impl FnOnce() -> T) -> (T, Used) {
    let (before, calls) = (LIVE.get(), CALLS.get());
    PEAK.set(before);
    let done = work();
    let used = Used { peak: (PEAK.get() - before) as usize, held: LIVE.get() - before, calls: CALLS.get() - calls };
    (done, used)
}
