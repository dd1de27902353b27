//! Structs of numbers with named members: the Rust side of the structs in a rule's WGSL.

/// A struct of numbers with named members, the Rust side of a WGSL struct of the same name.
pub trait Fields<F>: Copy {
    /// The members' names, in order.
    const NAMES: &'static [&'static str];
    /// Fills the members in order.
    fn load(next: impl FnMut(usize) -> F) -> Self;
    /// Hands the members out in order.
    fn store(&self, put: impl FnMut(usize, F));
}

/// Declares a [`Fields`] struct.
macro_rules! fields {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name<F> { $($(#[$fdoc])* pub $field: F),* }

        impl<F: Copy> $crate::optim::rule::Fields<F> for $name<F> {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),*];
            #[inline(always)]
            fn load(mut next: impl FnMut(usize) -> F) -> Self {
                let mut at = 0..;
                Self { $($field: next(at.next().unwrap_or_default())),* }
            }
            #[inline(always)]
            fn store(&self, mut put: impl FnMut(usize, F)) {
                let mut at = 0..;
                $(put(at.next().unwrap_or_default(), self.$field);)*
            }
        }
    };
}
pub(crate) use fields;

/// The decision of a rule that needs no sums.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl<F> Fields<F> for Nothing {
    const NAMES: &'static [&'static str] = &[];
    fn load(_: impl FnMut(usize) -> F) -> Self {
        Self
    }
    fn store(&self, _: impl FnMut(usize, F)) {}
}
