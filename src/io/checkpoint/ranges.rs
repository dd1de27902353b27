//! Checkpoints of ranges: every optimizer of several saves its own range of each tensor, and any number of optimizers loads them.

use std::collections::HashMap;
use std::ops::Range;

use super::saved::Checkpoint;
use crate::gpu::access::snapshot::Arrays;
use crate::io::tensor_file::quote;
use crate::options::storage::Packed;
use crate::options::storage::blockwise::BLOCK;
use crate::{Error, Result};

/// A range of the elements of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRange {
    /// The tensor's name.
    pub name: String,
    /// The shape of the whole tensor.
    pub shape: Vec<usize>,
    /// The elements.
    pub range: Range<u64>,
}

impl TensorRange {
    /// The shape that a checkpoint gives the range: the tensor's where the range is the whole tensor, else one dimension.
    fn saved_shape(&self) -> Vec<usize> {
        let elements = self.shape.iter().map(|n| *n as u64).product();
        if self.range == (0..elements) {
            self.shape.clone()
        } else {
            vec![(self.range.end - self.range.start) as usize]
        }
    }
}

/// A checkpoint with the ranges that its tensors hold, by the names of the tensors.
struct Share<'a> {
    checkpoint: &'a Checkpoint,
    ranges: HashMap<&'a str, &'a TensorRange>,
    tensors: HashMap<&'a str, &'a Arrays>,
}

/// The elements of one tensor that a part holds and the new checkpoint needs.
struct Piece<'a> {
    arrays: &'a Arrays,
    /// The elements in the tensor.
    needed: Range<u64>,
    /// The same elements in the arrays of the part.
    held: Range<usize>,
}

impl Checkpoint {
    /// The checkpoint of the elements `wanted`, from checkpoints of optimizers that each stepped the [range](crate::Builder::own_range) of a tensor
    /// that stands beside it. Settings are those of the first part, and the counters of a rule those of the first part with elements of the rule;
    /// `name` is for errors. A tensor that is wanted whole gets its shape back, so that the result for all tensors is the checkpoint of one
    /// optimizer.
    ///
    /// # Errors
    /// No part; the parts belong to different rules, settings or steps, or lack elements; a range begins inside a block of 8-bit states.
    pub fn from_ranges(name: &str, parts: &[(Self, Vec<TensorRange>)], wanted: &[TensorRange]) -> Result<Self> {
        let parts: Vec<Share<'_>> = parts.iter().map(|(checkpoint, ranges)| Share::new(checkpoint, ranges)).collect();
        let Some(first) = parts.first().map(|part| part.checkpoint) else {
            return Err(error(name, "no part was given".to_owned()));
        };
        for part in &parts {
            part.check_beside(first)?;
        }
        let mut whole = Self { name: name.to_owned(), ..first.clone() };
        let mut rule_of = HashMap::new();
        for (number, part) in parts.iter().flat_map(|share| share.checkpoint.parts.iter().enumerate()) {
            rule_of.extend(part.contents.tensors.iter().map(|tensor| (tensor.name.as_str(), number)));
        }
        for (number, part) in whole.parts.iter_mut().enumerate() {
            if let Some(holder) = holder(&parts, number)? {
                let kept = &holder.checkpoint.parts[number].contents;
                part.contents.control = kept.control;
                part.contents.global_state.clone_from(&kept.global_state);
                part.contents.losses.clone_from(&kept.losses);
            }
            // A tensor that no part has is missed in the first rule.
            let wanted = wanted.iter().filter(|wanted| rule_of.get(wanted.name.as_str()).map_or(0, |n| *n) == number);
            part.contents.tensors = wanted.map(|wanted| tensor(name, &parts, wanted)).collect::<Result<_>>()?;
        }
        Ok(whole)
    }
}

impl<'a> Share<'a> {
    fn new(checkpoint: &'a Checkpoint, ranges: &'a [TensorRange]) -> Self {
        let ranges = ranges.iter().map(|range| (range.name.as_str(), range)).collect();
        Self { checkpoint, ranges, tensors: checkpoint.by_name() }
    }

    /// Whether the part has elements of the tensors of a rule.
    fn holds(&self, rule: usize) -> bool {
        let mut names = self.checkpoint.parts[rule].contents.tensors.iter().map(|tensor| tensor.name.as_str());
        names.any(|name| self.ranges.get(name).is_some_and(|own| !own.range.is_empty()))
    }

    /// Checks that two parts belong to the same rules with the same settings.
    fn check_beside(&self, first: &Checkpoint) -> Result<()> {
        let own = self.checkpoint;
        if own.parts.len() != first.parts.len() {
            return Err(differ(own, first, "its count of rules", [&own.parts.len(), &first.parts.len()]));
        }
        for (own_part, first_part) in own.parts.iter().zip(&first.parts) {
            if own_part.optimizer != first_part.optimizer {
                return Err(differ(own, first, "its rule", [&own_part.optimizer, &first_part.optimizer]));
            }
            if own_part.groups != first_part.groups {
                return Err(error(&own.name, format!("its groups have other settings than those of {}", first.name)));
            }
        }
        Ok(())
    }

    /// The elements of `wanted` that this part holds. `None`: the part does not hold the tensor.
    fn piece(&self, wanted: &TensorRange) -> Result<Option<Piece<'a>>> {
        let name = wanted.name.as_str();
        let (Some(own), Some(arrays)) = (self.ranges.get(name), self.tensors.get(name)) else { return Ok(None) };
        let tensor = quote(name);
        if own.shape != wanted.shape {
            let problem = format!("tensor {tensor} has shape {:?}, needs {:?}", own.shape, wanted.shape);
            return Err(error(&self.checkpoint.name, problem));
        }
        if arrays.shape != own.saved_shape() {
            let problem = format!("its range {:?} of tensor {tensor} has shape {:?}", own.range, arrays.shape);
            return Err(error(&self.checkpoint.name, problem));
        }
        let start = wanted.range.start.clamp(own.range.start, own.range.end);
        let needed = start..wanted.range.end.clamp(start, own.range.end);
        let is_whole = |range: &TensorRange| range.range == (0..range.shape.iter().map(|n| *n as u64).product());
        if !needed.is_empty()
            && arrays.arrays.iter().any(|(_, values)| values.len() != arrays.elements())
            && !(is_whole(own) && is_whole(wanted))
        {
            let problem = format!("tensor {tensor} has states of whole rows and columns, which have no ranges");
            return Err(error(&self.checkpoint.name, problem));
        }
        let at = |element: u64| (element - own.range.start) as usize;
        // The arrays of whole rows and columns may be shorter than the place of an empty range.
        let held = if needed.is_empty() { 0..0 } else { at(needed.start)..at(needed.end) };
        let cuts_block = |(_, values): &(String, Packed)| matches!(values, Packed::Blocks { .. });
        if !held.is_empty() && !held.start.is_multiple_of(BLOCK) && arrays.arrays.iter().any(cuts_block) {
            let problem = format!("element {} of tensor {tensor} lies inside a block of {BLOCK}", needed.start);
            return Err(error(&self.checkpoint.name, problem));
        }
        Ok(Some(Piece { arrays, needed, held }))
    }
}

/// The first part with elements of a rule, whose counters are those of all: a part without elements counts no step.
///
/// # Errors
/// Another part with elements of the rule counts other steps.
fn holder<'p, 'a>(parts: &'p [Share<'a>], rule: usize) -> Result<Option<&'p Share<'a>>> {
    let mut holders = parts.iter().filter(|part| part.holds(rule));
    let Some(first) = holders.next() else { return Ok(None) };
    let count = |share: &Share<'_>| share.checkpoint.parts[rule].step_count();
    match holders.find(|other| count(other) != count(first)) {
        Some(other) => {
            Err(differ(other.checkpoint, first.checkpoint, "its step count", [&count(other), &count(first)]))
        }
        None => Ok(Some(first)),
    }
}

/// The arrays of one tensor, joined.
fn tensor(name: &str, parts: &[Share<'_>], wanted: &TensorRange) -> Result<Arrays> {
    let mut pieces = Vec::new();
    for part in parts {
        pieces.extend(part.piece(wanted)?);
    }
    // A piece without elements gives the names and forms of the arrays where the wanted range is empty.
    pieces.sort_by_key(|piece| (piece.held.is_empty(), piece.needed.start));
    let lacks = |at| error(name, format!("lacks element {at} of tensor {}", quote(&wanted.name)));
    let Some(first) = pieces.first() else { return Err(lacks(wanted.range.start)) };
    // The states of whole rows and columns come from whole tensors.
    let is_whole = first.held.len() == first.arrays.elements();
    let start = |values: &Packed| if is_whole { values.clone() } else { values.part(first.held.clone()) };
    let mut arrays: Vec<(String, Packed)> =
        first.arrays.arrays.iter().map(|(array, values)| (array.clone(), start(values))).collect();
    let mut at = wanted.range.start;
    for (number, piece) in pieces.iter().enumerate().filter(|(_, piece)| !piece.held.is_empty()) {
        if piece.needed.start > at {
            return Err(lacks(at));
        }
        if piece.needed.start < at {
            let problem = format!("has element {} of tensor {} twice", piece.needed.start, quote(&wanted.name));
            return Err(error(name, problem));
        }
        at = piece.needed.end;
        if number > 0 {
            check_progress(name, first, piece)?;
            append(name, &mut arrays, piece)?;
        }
    }
    if at < wanted.range.end {
        return Err(lacks(at));
    }
    Ok(Arrays {
        name: wanted.name.clone(),
        group: first.arrays.group.clone(),
        shape: wanted.saved_shape(),
        arrays,
        progress: first.arrays.progress.clone(),
    })
}

/// Checks that two parts of a tensor have made the same steps. The numbers kept once per tensor are those of the first part.
fn check_progress(name: &str, first: &Piece<'_>, piece: &Piece<'_>) -> Result<()> {
    let (here, there) = (&piece.arrays.progress, &first.arrays.progress);
    if here == there {
        return Ok(());
    }
    let tensor = quote(&piece.arrays.name);
    Err(error(
        name,
        format!(
            "a part of tensor {tensor} has the numbers {here:?}, another {there:?}: save all parts after the same steps"
        ),
    ))
}

fn append(name: &str, arrays: &mut [(String, Packed)], piece: &Piece<'_>) -> Result<()> {
    let forms = |arrays: &[(String, Packed)]| -> Vec<String> {
        arrays.iter().map(|(array, values)| format!("{} in {}", quote(array), values.layout())).collect()
    };
    let (here, there) = (forms(arrays), forms(&piece.arrays.arrays));
    if here != there {
        let tensor = quote(&piece.arrays.name);
        let problem = format!("a part of tensor {tensor} has {}, another {}", here.join(", "), there.join(", "));
        return Err(error(name, problem));
    }
    for ((_, to), (_, from)) in arrays.iter_mut().zip(&piece.arrays.arrays) {
        to.append(from.part(piece.held.clone()));
    }
    Ok(())
}

/// The error of a part in which `what` is the first value, beside one in which it is the second.
fn differ(own: &Checkpoint, other: &Checkpoint, what: &str, values: [&dyn std::fmt::Display; 2]) -> Error {
    error(&own.name, format!("{what} is {}, and {} in {}", values[0], values[1], other.name))
}

fn error(file: &str, problem: String) -> Error {
    Error::File { file: file.to_owned(), problem }
}
