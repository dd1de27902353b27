//! Mistakes with buffers of numbers in half precision, named with what was wrong, what it was and what is needed.

use std::ops::Range;

use wgpu_optim::optim::{AdamW, AdamWScheduleFree, SAdam};
use wgpu_optim::{Builder, Ema, Group, Optimizer};

use super::storage;
use crate::common::gpu;
use crate::errors::{buffer, refuses, says};

fn builder(form: &str) -> Builder {
    let mut builder = Optimizer::builder(AdamW::default());
    builder.storage(storage(form));
    builder
}

/// A tensor of `elements` elements in these ranges of two fresh buffers of 64 bytes.
fn bound(form: &str, elements: usize, param: Range<u64>, grad: Range<u64>) -> Builder {
    let (params, grads) = (buffer(64), buffer(64));
    let mut builder = builder(form);
    builder.bind(Group::DEFAULT, "w", &[elements], params.slice(param), grads.slice(grad));
    builder
}

#[test]
fn lengths_are_those_of_halves() {
    for (form, elements, param, grad) in [
        ("bf16-sr", 10, 0..20, 0..20),
        ("f16-nearest", 9, 16..36, 16..36),
        ("bf16-split,grads=f32", 10, 0..20, 0..40),
        ("f32,grads=bf16", 10, 0..40, 16..36),
        ("f16-master", 1, 48..52, 48..52),
    ] {
        bound(form, elements, param, grad).build(&gpu().device, &gpu().queue).expect(form);
    }
    let refused = [
        ("bf16-sr", 10, 0..40, 0..20, ["parameters have 40 bytes", "[10] needs 20"]),
        ("bf16-sr", 10, 0..20, 0..40, ["gradients have 40 bytes", "[10] needs 20"]),
        ("bf16-sr", 9, 0..16, 0..20, ["parameters have 16 bytes", "[9] needs 20"]),
        ("bf16-sr,grads=f32", 10, 0..20, 0..20, ["gradients have 20 bytes", "[10] needs 40"]),
        ("f32,grads=f16", 10, 0..40, 0..40, ["gradients have 40 bytes", "[10] needs 20"]),
        ("f16-nearest", 10, 8..28, 0..20, ["parameters begin at byte 8", "multiple of 16"]),
        ("f16-nearest", 10, 0..20, 44..64, ["gradients begin at byte 44", "multiple of 16"]),
    ];
    for (form, elements, param, grad, parts) in refused {
        let [what, needs] = parts;
        refuses(bound(form, elements, param, grad), &["tensor `w`", what, needs]);
    }
    let short = buffer(28);
    let mut builder = builder("bf16-sr");
    builder.bind(Group::DEFAULT, "w", &[10], short.slice(0..20), buffer(64).slice(0..20));
    refuses(builder, &["tensor `w`", "end at byte 32", "the buffer has 28", "4 bytes longer"]);
}

#[test]
fn one_buffer_of_two_widths() {
    for (form, param, grad) in [("bf16-sr,grads=f32", 0..20, 32..72), ("f32,grads=f16", 0..40, 48..68)] {
        let page = buffer(96);
        let mut builder = builder(form);
        builder.bind(Group::DEFAULT, "w", &[10], page.slice(param), page.slice(grad));
        refuses(builder, &["tensor `w`", "different widths", "two buffers"]);
    }
    // One buffer may hold both if they have one width.
    let page = buffer(96);
    let mut builder = builder("bf16-sr,grads=f16");
    builder.bind(Group::DEFAULT, "w", &[10], page.slice(0..20), page.slice(32..52));
    builder.build(&gpu().device, &gpu().queue).unwrap();
}

#[test]
fn halves_that_overlap() {
    let page = buffer(96);
    let mut builder = builder("bf16-sr");
    builder.bind(Group::DEFAULT, "w", &[9], page.slice(0..20), page.slice(16..36));
    refuses(builder, &["tensor `w`", "gradients at bytes 16..48", "the parameters of `w` at bytes 0..32"]);
}

#[test]
fn rebound_gradients_have_their_format() {
    let (params, grads) = (buffer(64), buffer(96));
    let mut builder = builder("bf16-split");
    let w = builder.bind_param(Group::DEFAULT, "w", &[10], params.slice(0..20));
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    let mut step = |range| gpu().run(|encoder| optimizer.step_with_grads(encoder, [(w, grads.slice(range))]));
    says(step(0..40), &["tensor `w`", "gradients have 40 bytes", "needs 20"]);
    says(step(8..28), &["tensor `w`", "begin at byte 8", "multiple of 16"]);
    step(16..36).unwrap();
    says(optimizer.write_param(w, &[0.0; 20]), &["tensor `w`", "20 values", "[10] has 10"]);
}

/// An average in f32 would not fit where the weights are.
#[test]
fn an_average_that_would_be_rounded() {
    for (form, refused) in [("bf16-sr", true), ("f16-nearest", true), ("bf16-split", false), ("f16-master", false)] {
        let mut builder = builder(form);
        builder.tensor(Group::DEFAULT, "w", &[10]);
        builder.ema(Ema::default());
        let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
        gpu().run(|encoder| optimizer.step(encoder)).unwrap();
        let swapped = gpu().run(|encoder| optimizer.swap_ema(encoder));
        if refused {
            says(swapped, &["tensor `w`", "bf16-split", "`ema`"]);
        } else {
            swapped.unwrap();
        }
    }
}

/// The build refuses a storage that the rule refuses, also if the storage is for one tensor.
#[test]
fn rules_that_need_more() {
    let mut builder = Optimizer::builder(SAdam::default());
    builder.tensor(Group::DEFAULT, "w", &[10]);
    builder.storage(storage("bf16-split"));
    refuses(builder, &["bf16-split", "sadam", "f32"]);
    let mut builder = Optimizer::builder(AdamWScheduleFree::default());
    builder.tensor(Group::DEFAULT, "v", &[10]);
    let w = builder.tensor(Group::DEFAULT, "w", &[10]);
    builder.tensor_storage(w, storage("bf16-sr"));
    refuses(builder, &["bf16-sr", "adamw_schedule_free", "bf16-split"]);
    let mut builder = Optimizer::builder(AdamW::default());
    let w = builder.tensor(Group::DEFAULT, "w", &[10]);
    builder.tensor_storage(w, storage("momentum=8bit"));
    refuses(builder, &["state of adamw", "`momentum`", "m, v"]);
}
