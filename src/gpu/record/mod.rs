//! Recording: a step and its halves, the evaluations inside it, gradients that are given with each step, and changes of rows. Nothing is
//! created or submitted here.

pub(crate) mod dynamic;
mod eval_params;
pub(crate) mod evaluate;
pub(crate) mod rows;
pub(crate) mod step;
