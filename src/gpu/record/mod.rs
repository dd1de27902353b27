//! Recording: a step and its halves, the evaluations inside a step, dynamic gradients, and changes of rows. A step with fixed gradients
//! creates nothing, and only the calls that say so submit.

pub(crate) mod dynamic;
pub(crate) mod evaluate;
pub(crate) mod joint;
pub(crate) mod mode;
pub(crate) mod probed;
pub(crate) mod rows;
pub(crate) mod stages;
pub(crate) mod step;
