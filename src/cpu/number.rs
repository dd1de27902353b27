//! The number types in which the host computes, and the vector units of the processor.

use crate::optim::Rule;
use crate::optim::rule::Real;
use crate::optim::rule::host::HostKernel;

/// A number type of the [`Optimizer`](crate::cpu::Optimizer) on the host.
pub trait Number: Real {
    /// Whether this type is the fast path.
    const FAST: bool;
    /// The rule's mathematics in this type.
    fn of_rule(rule: &dyn Rule) -> &dyn HostKernel<Self>;
}

impl Number for f32 {
    const FAST: bool = true;
    fn of_rule(rule: &dyn Rule) -> &dyn HostKernel<Self> {
        rule.cpu_f32()
    }
}

impl Number for f64 {
    const FAST: bool = false;
    fn of_rule(rule: &dyn Rule) -> &dyn HostKernel<Self> {
        rule.cpu_f64()
    }
}

/// The vector units that the fast path uses on this processor.
#[must_use]
pub fn vector_units() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "AVX2";
        }
    }
    "as compiled"
}
