//! The perceptron on the CPU, in any float type, on all cores. Only the number of rows decides the chunks, and the sums of the chunks are
//! added in order, so that the bits do not depend on the threads.

use super::batches::Batches;
use super::quantize::Bits;
use super::shape::{Activation, Mlp};
use crate::Result;
use crate::optim::rule::Real;
use crate::tools::objectives::vector;
use crate::tools::objectives::vector::{add, dot, widest};
use crate::tools::objectives::{CpuObjective, Outcome, Part, Samples, Split, TensorSpec, check};
use rayon::prelude::*;
use std::ops::Range;

/// The largest number of chunks of one evaluation, and the least number of rows of a chunk.
const CHUNKS: usize = 16;
const FEWEST: usize = 8;

/// An [`Mlp`] on the host, with its data. With one seed, its batches are those of [`super::GpuMlp`].
pub struct CpuMlp<F> {
    tensors: Vec<TensorSpec>,
    net: Net,
    batches: Batches,
    epoch: u32,
    train: Rows<F>,
    held_out: Rows<F>,
    chunks: Vec<Chunk<F>>,
}

impl<F: Real> CpuMlp<F> {
    /// Copies the data. The seed decides each epoch's order.
    ///
    /// # Errors
    /// The widths do not fit the data, or the batch size is outside 1..=training rows.
    pub fn new(spec: &Mlp, split: &Split, batch_size: usize, seed: u64) -> Result<Self> {
        spec.check(split)?;
        let tensors = spec.tensors();
        let parts = [Part::Train, Part::HeldOut].map(|p| split.part(p));
        let most = parts.map(Samples::rows).into_iter().fold(batch_size, usize::max);
        let [train, held_out] = parts.map(Rows::new);
        Ok(Self {
            net: Net::new(spec),
            batches: Batches::new(split, batch_size, seed)?,
            epoch: 0,
            train,
            held_out,
            chunks: chunks(spec, &tensors, most),
            tensors,
        })
    }

    /// Evaluates a part of the data.
    ///
    /// # Errors
    /// A slice has a wrong length; the error names the tensor.
    pub fn accuracy(&mut self, params: &[&[F]], part: Part) -> Result<Outcome> {
        check::lengths(&self.tensors, params.iter().map(|p| p.len()), "parameters")?;
        let data = match part {
            Part::Train => &self.train,
            Part::HeldOut => &self.held_out,
        };
        let rows = data.labels.len();
        Ok(evaluate(&self.net, &mut self.chunks, params, 0..rows, |chunk, row| chunk.take(data, row), false))
    }

    fn run(&mut self, params: &[&[F]], batch: usize, backward: bool) -> Result<Outcome> {
        check::lengths(&self.tensors, params.iter().map(|p| p.len()), "parameters")?;
        let range = self.batches.range(batch)?;
        let (train, batches, epoch) = (&self.train, &self.batches, self.epoch);
        let take = |chunk: &mut Chunk<F>, position| chunk.take(train, batches.row(position as u32, epoch));
        let rows = range.start as usize..range.end as usize;
        Ok(evaluate(&self.net, &mut self.chunks, params, rows, take, backward))
    }
}

impl<F: Real> CpuObjective<F> for CpuMlp<F> {
    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn batches(&self) -> usize {
        self.batches.count()
    }

    fn set_epoch(&mut self, epoch: u32) {
        self.epoch = epoch;
    }

    fn gradient(&mut self, params: &[&[F]], batch: usize, grads: &mut [&mut [F]]) -> Result<Outcome> {
        check::lengths(&self.tensors, grads.iter().map(|g| g.len()), "gradients")?;
        let outcome = self.run(params, batch, true)?;
        let used = chunk_count(outcome.rows as usize);
        grads.par_iter_mut().enumerate().for_each(|(tensor, grad)| {
            grad.copy_from_slice(&self.chunks[0].grads[tensor]);
            for chunk in &self.chunks[1..used] {
                add(grad, F::one(), &chunk.grads[tensor]);
            }
        });
        Ok(outcome)
    }

    fn loss(&mut self, params: &[&[F]], batch: usize) -> Result<Outcome> {
        self.run(params, batch, false)
    }
}

struct Rows<F> {
    inputs: Vec<F>,
    labels: Vec<u32>,
}

impl<F: Real> Rows<F> {
    fn new(samples: &Samples) -> Self {
        let exact = |x: &f32| F::from_f64(f64::from(*x));
        Self { inputs: samples.inputs().iter().map(exact).collect(), labels: samples.labels().to_vec() }
    }
}

struct Net {
    layers: Vec<(usize, usize)>,
    activation: Activation,
    binary: bool,
    bits: Option<Bits>,
}

impl Net {
    fn new(spec: &Mlp) -> Self {
        let (activation, binary, bits) = (spec.activation, spec.is_binary(), spec.bits);
        Self { layers: spec.layers().collect(), activation, binary, bits }
    }
}

/// The outcome of a perceptron with these parameters on the samples.
pub(in crate::tools::objectives) fn measure(spec: &Mlp, params: &[&[f32]], samples: &Samples) -> Outcome {
    let (rows, data) = (samples.rows(), Rows::new(samples));
    let mut chunks = chunks(spec, &spec.tensors(), rows);
    evaluate(&Net::new(spec), &mut chunks, params, 0..rows, |chunk, row| chunk.take(&data, row), false)
}

fn chunks<F: Real>(spec: &Mlp, tensors: &[TensorSpec], most: usize) -> Vec<Chunk<F>> {
    (0..CHUNKS).map(|_| Chunk::new(&spec.widths, tensors, chunk_rows(most))).collect()
}

/// The buffers of one thread for its rows.
struct Chunk<F> {
    rows: usize,
    /// The inputs, then each layer's outputs, row by row.
    activations: Vec<Vec<F>>,
    /// The same values rounded, if the net rounds.
    rounded: Vec<Vec<F>>,
    /// The derivative of the loss by each layer's sums.
    deltas: Vec<Vec<F>>,
    grads: Vec<Vec<F>>,
    labels: Vec<u32>,
    loss: F,
    correct: u32,
}

fn chunk_rows(rows: usize) -> usize {
    rows.div_ceil(CHUNKS).max(FEWEST)
}

fn chunk_count(rows: usize) -> usize {
    rows.div_ceil(chunk_rows(rows))
}

/// The forward pass and, if requested, the backward pass over chunks of the positions. `take` fetches each row.
fn evaluate<F: Real>(
    net: &Net,
    chunks: &mut [Chunk<F>],
    params: &[&[F]],
    range: Range<usize>,
    take: impl Fn(&mut Chunk<F>, usize) + Sync,
    backward: bool,
) -> Outcome {
    let (rows, step) = (range.len(), chunk_rows(range.len()));
    let used = &mut chunks[..chunk_count(rows)];
    let rounded = net.bits.map(|bits| rounded_weights(bits, params));
    let rounded: Option<Vec<&[F]>> = rounded.as_ref().map(|tensors| tensors.iter().map(Vec::as_slice).collect());
    let params = rounded.as_deref().unwrap_or(params);
    let load = |(at, chunk): (usize, &mut Chunk<F>)| {
        chunk.clear();
        let first = range.start + at * step;
        (first..range.end.min(first + step)).for_each(|position| take(chunk, position));
    };
    let finish = |chunk: &mut Chunk<F>| {
        chunk.head(net, rows);
        if backward {
            chunk.backward(net, params);
        }
    };
    if let Some(bits) = net.bits {
        used.par_iter_mut().enumerate().for_each(load);
        for at in 0..net.layers.len() {
            used.par_iter_mut().for_each(|chunk| widest(|| chunk.layer(net, params, at)));
            if at + 1 < net.layers.len() {
                round_outputs(used, bits, at + 1);
            }
        }
        used.par_iter_mut().for_each(|chunk| widest(|| finish(chunk)));
    } else {
        used.par_iter_mut().enumerate().for_each(|(at, chunk)| {
            load((at, chunk));
            widest(|| {
                (0..net.layers.len()).for_each(|at| chunk.layer(net, params, at));
                finish(chunk);
            });
        });
    }
    let loss: f64 = used.iter().map(|chunk| chunk.loss.to_f64()).sum();
    Outcome { rows: rows as u32, loss: loss / rows as f64, correct: used.iter().map(|chunk| chunk.correct).sum() }
}

/// Rounds the outputs of a layer, with one scale for all rows together.
fn round_outputs<F: Real>(chunks: &mut [Chunk<F>], bits: Bits, at: usize) {
    let largest = chunks.iter().map(|chunk| vector::largest(&chunk.activations[at])).fold(F::zero(), F::max);
    chunks.par_iter_mut().for_each(|chunk| {
        widest(|| bits.round(largest, &chunk.activations[at], &mut chunk.rounded[at]));
    });
}

/// The tensors with rounded weights. Biases stay as they are.
fn rounded_weights<F: Real>(bits: Bits, params: &[&[F]]) -> Vec<Vec<F>> {
    let mut tensors: Vec<Vec<F>> = params.iter().map(|p| p.to_vec()).collect();
    for (to, weights) in tensors.iter_mut().zip(params).step_by(2) {
        widest(|| bits.round(vector::largest(weights), weights, to));
    }
    tensors
}

impl<F: Real> Chunk<F> {
    fn new(widths: &[usize], tensors: &[TensorSpec], most: usize) -> Self {
        let room = |width: &usize| Vec::with_capacity(width * most);
        Self {
            rows: 0,
            activations: widths.iter().map(room).collect(),
            rounded: vec![Vec::new(); widths.len()],
            deltas: widths[1..].iter().map(room).collect(),
            grads: tensors.iter().map(|t| vec![F::zero(); t.elements()]).collect(),
            labels: Vec::with_capacity(most),
            loss: F::zero(),
            correct: 0,
        }
    }

    fn clear(&mut self) {
        self.rows = 0;
        self.activations[0].clear();
        self.labels.clear();
    }

    fn take(&mut self, data: &Rows<F>, row: usize) {
        let width = data.inputs.len() / data.labels.len();
        self.activations[0].extend_from_slice(&data.inputs[row * width..][..width]);
        self.labels.push(data.labels[row]);
        self.rows += 1;
    }

    /// The input of layer `at`: the rows' inputs, or the outputs of the layer before.
    #[inline(always)]
    fn seen<'a>(activations: &'a [Vec<F>], rounded: &'a [Vec<F>], net: &Net, at: usize) -> &'a [F] {
        if net.bits.is_some() && at > 0 { &rounded[at] } else { &activations[at] }
    }

    /// The outputs of layer `at`.
    #[inline(always)]
    fn layer(&mut self, net: &Net, params: &[&[F]], at: usize) {
        let (inputs, outputs) = net.layers[at];
        let (before, behind) = self.activations.split_at_mut(at + 1);
        let (from, to) = (Self::seen(before, &self.rounded, net, at), &mut behind[0]);
        to.resize(self.rows * outputs, F::zero());
        for (unit, weights) in params[2 * at].chunks_exact(inputs).enumerate() {
            for (x, y) in from.chunks_exact(inputs).zip(to.chunks_exact_mut(outputs)) {
                y[unit] = params[2 * at + 1][unit] + dot(weights, x);
            }
        }
        if at + 1 < net.layers.len() {
            net.activation.apply(to);
        }
    }

    /// The chunk's share of the loss, and the slope of the mean over all `rows` by each of the last layer's sums.
    #[inline(always)]
    fn head(&mut self, net: &Net, rows: usize) {
        if net.binary { self.sigmoid(rows) } else { self.softmax(rows) }
    }

    #[inline(always)]
    fn sigmoid(&mut self, rows: usize) {
        let last = self.deltas.len() - 1;
        let (one, scale) = (F::one(), F::from_f64(rows as f64));
        (self.loss, self.correct) = (F::zero(), 0);
        self.deltas[last].clear();
        for (z, label) in self.activations[last + 1].iter().zip(&self.labels) {
            let (second, small) = (*label == 1, (-z.abs()).exp());
            let probability = if *z < F::zero() { small } else { one } / (one + small);
            self.deltas[last].push((probability - if second { one } else { F::zero() }) / scale);
            let wrong = if second { -*z } else { *z };
            self.loss = self.loss + if wrong > F::zero() { wrong } else { F::zero() } + (one + small).ln();
            self.correct += u32::from((*z > F::zero()) == second);
        }
    }

    #[inline(always)]
    fn softmax(&mut self, rows: usize) {
        let last = self.deltas.len() - 1;
        let logits = &self.activations[last + 1];
        let delta = &mut self.deltas[last];
        delta.resize(logits.len(), F::zero());
        let classes = logits.len() / self.rows;
        let scale = F::from_f64(rows as f64);
        (self.loss, self.correct) = (F::zero(), 0);
        for ((z, d), label) in logits.chunks_exact(classes).zip(delta.chunks_exact_mut(classes)).zip(&self.labels) {
            let label = *label as usize;
            let best = (1..classes).fold(0, |best, c| if z[c] > z[best] { c } else { best });
            let total = z.iter().fold(F::zero(), |sum, z_c| sum + (*z_c - z[best]).exp());
            self.loss = self.loss + (total.ln() - (z[label] - z[best]));
            self.correct += u32::from(best == label);
            for (class, (d_c, z_c)) in d.iter_mut().zip(z).enumerate() {
                let hit = if class == label { F::one() } else { F::zero() };
                *d_c = ((*z_c - z[best]).exp() / total - hit) / scale;
            }
        }
    }

    #[inline(always)]
    fn backward(&mut self, net: &Net, params: &[&[F]]) {
        for (at, (inputs, outputs)) in net.layers.iter().copied().enumerate().rev() {
            let (before, behind) = self.deltas.split_at_mut(at);
            let delta = &behind[0][..self.rows * outputs];
            let from = &self.activations[at][..self.rows * inputs];
            let seen = Self::seen(&self.activations, &self.rounded, net, at);
            let (weights, biases) = self.grads.split_at_mut(2 * at + 1);
            weight_gradient(seen, delta, (inputs, outputs), &mut weights[2 * at], &mut biases[0]);
            let Some(to) = before.last_mut() else { continue };
            to.clear();
            to.resize(self.rows * inputs, F::zero());
            for (d, to) in delta.chunks_exact(outputs).zip(to.chunks_exact_mut(inputs)) {
                for (d_o, weights) in d.iter().zip(params[2 * at].chunks_exact(inputs)) {
                    add(to, *d_o, weights);
                }
            }
            for (to, y) in to.iter_mut().zip(from) {
                *to = *to * net.activation.slope(*y);
            }
        }
    }
}

#[inline(always)]
fn weight_gradient<F: Real>(
    from: &[F],
    delta: &[F],
    (inputs, outputs): (usize, usize),
    weights: &mut [F],
    biases: &mut [F],
) {
    weights.fill(F::zero());
    biases.fill(F::zero());
    for (unit, (weights, bias)) in weights.chunks_exact_mut(inputs).zip(biases).enumerate() {
        for (x, d) in from.chunks_exact(inputs).zip(delta.chunks_exact(outputs)) {
            add(weights, d[unit], x);
            *bias = *bias + d[unit];
        }
    }
}

impl Activation {
    #[inline(always)]
    fn apply<F: Real>(self, sums: &mut [F]) {
        match self {
            // This comparison is false for NaN, so that a NaN stays visible.
            Self::Relu => sums.iter_mut().for_each(|x| *x = if *x < F::zero() { F::zero() } else { *x }),
            Self::Tanh => vector::tanh(sums),
        }
    }

    /// The slope, from the unit's output.
    #[inline(always)]
    fn slope<F: Real>(self, y: F) -> F {
        match self {
            Self::Relu if y > F::zero() => F::one(),
            Self::Relu => F::zero(),
            Self::Tanh => F::one() - y * y,
        }
    }
}
