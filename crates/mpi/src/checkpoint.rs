//! Checkpoints: one logical model, written by all ranks, loaded on any number of ranks or by one process.
//!
//! The file at the path of the caller holds the shard of rank 0, the counters, and a note that lists the other files and what each holds.
//! Every other rank writes its shard to a file of its own beside it, under a new name. Only when all of these are complete does rank 0
//! replace the file at the path, in one step. So a run that is killed at any moment leaves the old checkpoint or the new one.

use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use wgpu_optim::RowSet;
use wgpu_optim::checkpoint::{Checkpoint, Fit, TensorRange};

use crate::sharded::Sharded;
use crate::shards::{shards, whole};
use crate::{Error, Result};

/// The note of the first file that describes the files of all ranks.
const NOTE: &str = "wgpu-optim-mpi ranks";

impl Sharded {
    /// Saves the model in all ranks, as one checkpoint. `path` lies in a folder that all ranks share. Parts of earlier checkpoints at this path
    /// are removed. With one rank or whole states, the file is an ordinary checkpoint. Waits for the other ranks and for the GPU.
    ///
    /// # Errors
    /// Those of [`Checkpoint::save`], on any rank: all ranks then return an error, and an earlier checkpoint stays as it was. A rank does not
    /// answer.
    pub fn save(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.save_noted(path, |_| ())
    }

    /// As [`save`](Self::save); `note` adds [notes](Checkpoint::notes_mut) to the file of rank 0.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn save_noted(&mut self, path: impl AsRef<Path>, note: impl FnOnce(&mut Checkpoint)) -> Result<()> {
        let path = path.as_ref();
        let own = self.own_checkpoint();
        let own = self.world.agree(own)?;
        let names = self.part_names(path)?;
        let rank = self.world.rank();
        let part = names.get(rank).filter(|_| rank > 0);
        let written = part.map_or(Ok(()), |name| own.save(path.with_file_name(name)));
        self.world.agree(written)?;
        let published = if rank == 0 { self.publish(path, own, &names, note) } else { Ok(()) };
        self.world.agree(published)
    }

    /// The checkpoint of the own ranges.
    fn own_checkpoint(&mut self) -> Result<Checkpoint> {
        let mut taken = None;
        self.run(|optimizer, encoder| optimizer.snapshot(encoder).map(|snapshot| taken = Some(snapshot)))?;
        let snapshot = taken.ok_or_else(|| Error::Usage("no snapshot was taken".to_owned()))?;
        let checkpoint = pollster::block_on(snapshot.checkpoint())?;
        let held = self.held(self.own_shard());
        let kept: Vec<_> = self.kept(self.world.rank(), self.own_shard()).map(|(_, range)| range).collect();
        Ok(Checkpoint::from_ranges("the own shard", &[(checkpoint, held)], &kept)?)
    }

    fn own_shard(&self) -> &[Range<u64>] {
        self.owned.get(self.world.rank()).unwrap_or(&self.owned[0])
    }

    /// The ranges of a shard, with all elements of frozen tensors.
    fn held(&self, shard: &[Range<u64>]) -> Vec<TensorRange> {
        let mut held = Vec::with_capacity(self.cuts.len());
        for (((_, name, shape), cut), range) in self.optimizer.tensors().zip(&self.cuts).zip(shard) {
            let range = if cut.frozen { 0..cut.elements } else { range.clone() };
            let whole = cut.elements == range.end - range.start;
            // A row set may use fewer rows than it has room for.
            let used = shape.iter().map(|n| *n as u64).product();
            let range = if whole { 0..used } else { range };
            held.push(TensorRange { name: name.to_owned(), shape: shape.to_vec(), range });
        }
        held
    }

    /// The ranges in the file of a rank, with the numbers of their tensors. A frozen tensor is in one file. The file of rank 0 names every tensor.
    fn kept<'s>(&'s self, rank: usize, shard: &[Range<u64>]) -> impl Iterator<Item = (usize, TensorRange)> + use<'s> {
        let own = move |(index, mut held): (usize, TensorRange)| {
            if self.cuts[index].frozen && self.keepers[index] != rank {
                held.range = 0..0;
            }
            (index, held)
        };
        let held = self.held(shard).into_iter().enumerate().map(own);
        held.filter(move |(_, held)| rank == 0 || !held.range.is_empty())
    }

    /// The names of the files of all ranks; that of rank 0 is not used. They are new names, which rank 0 chooses.
    fn part_names(&self, path: &Path) -> Result<Vec<String>> {
        let Some(stem) = path.file_name().and_then(OsStr::to_str) else {
            return Err(Error::Usage(format!("{}: a checkpoint needs the name of a file, in UTF-8", path.display())));
        };
        let moment = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64);
        let all =
            self.world.all_gather_equal("name files", &(moment ^ u64::from(std::process::id()) << 40).to_le_bytes())?;
        let key = bytemuck::pod_collect_to_vec::<u8, u64>(&all[0]).first().copied().unwrap_or(0);
        let (files, size) = (self.owned.len(), self.world.size());
        Ok((0..files).map(|rank| format!("{stem}.{key:016x}.{rank}-of-{size}")).collect())
    }

    /// Replaces the file at the path, then removes the parts of earlier checkpoints.
    fn publish(
        &self,
        path: &Path,
        mut own: Checkpoint,
        names: &[String],
        note: impl FnOnce(&mut Checkpoint),
    ) -> Result<()> {
        note(&mut own);
        let parts = names.get(1..).unwrap_or_default();
        if !parts.is_empty() {
            let index =
                json!({ "ranks": names.len(), "parts": parts, "tensors": self.shapes(), "ranges": self.ranges() });
            own.notes_mut().insert(NOTE.to_owned(), index.to_string());
        }
        own.save(path)?;
        remove_others(path, parts);
        Ok(())
    }

    fn shapes(&self) -> Vec<Json> {
        let tensors = self.held(&whole(&self.cuts)).into_iter();
        tensors.map(|tensor| json!({ "name": tensor.name, "shape": tensor.shape })).collect()
    }

    /// For each file, the tensors that it holds, by their numbers, each with the first element and the element behind the last.
    fn ranges(&self) -> Vec<Vec<(usize, u64, u64)>> {
        let of_rank = |(rank, shard): (usize, &Vec<Range<u64>>)| {
            self.kept(rank, shard).map(|(tensor, held)| (tensor, held.range.start, held.range.end)).collect()
        };
        self.owned.iter().enumerate().map(of_rank).collect()
    }

    /// Loads a checkpoint in all ranks: one of any number of ranks, or one of a plain optimizer. With the same number of ranks, training continues
    /// bit for bit. Each rank reads the files that hold its shard. Waits for the other ranks.
    ///
    /// # Errors
    /// Those of [`Checkpoint::load`] and [`Checkpoint::restore`]; a part is missing; a rank does not answer. If the file does not fit, no rank is
    /// changed.
    pub fn load(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.load_fitting(path, Fit::Whole)
    }

    /// As [`load`](Self::load), with the strictness of `fit`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_fitting(&mut self, path: impl AsRef<Path>, fit: Fit) -> Result<()> {
        let checkpoint = self.read_own(path.as_ref());
        let (checkpoint, rows) = self.world.agree(checkpoint)?;
        let before = self.set_rows(&rows);
        let restored = before.and_then(|before| {
            let restored = checkpoint.restore_fitting(&mut self.optimizer, fit);
            restored.map_err(Error::from).or_else(|error| self.set_rows(&before).and(Err(error)))
        });
        let restored = self.world.agree(restored);
        // Another rank may be restored where this one is not.
        self.world.shared(restored)?;
        self.gather_params()
    }

    /// Sets the counts of rows in use, on ranks without rows of a set too, and returns the counts before.
    fn set_rows(&mut self, rows: &[(RowSet, usize)]) -> Result<Vec<(RowSet, usize)>> {
        let before = rows.iter().map(|(set, _)| Ok((*set, self.optimizer.row_count(*set)?))).collect::<Result<_>>()?;
        rows.iter().try_for_each(|(set, count)| self.optimizer.set_row_count(*set, *count))?;
        Ok(before)
    }

    /// The checkpoint of the own shard, and the saved counts of rows in use.
    fn read_own(&self, path: &Path) -> Result<(Checkpoint, Vec<(RowSet, usize)>)> {
        let saved = Saved::open(path)?;
        let rows = self.cuts.iter().filter_map(|cut| {
            let shape = saved.shapes.iter().find(|(name, _)| *name == cut.name).map(|(_, shape)| shape)?;
            Some((cut.rows?, *shape.first()?))
        });
        let rows = rows.collect();
        let shapes = &saved.shapes;
        let shaped = |mut range: TensorRange| {
            // The saved count of rows in use may be another.
            if let Some(shape) = shapes.iter().find(|(name, _)| *name == range.name).map(|(_, shape)| shape) {
                let elements = |shape: &[usize]| shape.iter().map(|n| *n as u64).product();
                if range.range == (0..elements(&range.shape)) {
                    range.range = 0..elements(shape);
                }
                range.shape.clone_from(shape);
            }
            range
        };
        let wanted: Vec<TensorRange> = self.held(self.own_shard()).into_iter().map(shaped).collect();
        Ok((saved.read(&wanted)?, rows))
    }
}

/// The checkpoint of the whole model, as one process would have saved it, from the files of all ranks.
///
/// # Errors
/// Those of [`Checkpoint::load`]; a part is missing.
pub fn join(path: impl AsRef<Path>) -> Result<Checkpoint> {
    let saved = Saved::open(path.as_ref())?;
    let whole: Vec<_> = saved.shapes.iter().map(|(name, shape)| all_of(name, shape)).collect();
    saved.read(&whole)
}

/// A checkpoint at a path: the first file, and what the other files hold.
struct Saved {
    path: PathBuf,
    first: Checkpoint,
    shapes: Vec<(String, Vec<usize>)>,
    /// The ranges of each file, that of rank 0 first.
    ranges: Vec<Vec<TensorRange>>,
    parts: Vec<String>,
}

impl Saved {
    fn open(path: &Path) -> Result<Self> {
        let mut first = Checkpoint::load(path)?;
        let problem = |problem: &str| Error::Usage(format!("{}: its note `{NOTE}` {problem}", path.display()));
        let Some(note) = first.notes_mut().remove(NOTE) else {
            let shapes: Vec<_> = first.shapes().map(|(name, shape)| (name.to_owned(), shape.to_vec())).collect();
            let ranges = vec![shapes.iter().map(|(name, shape)| all_of(name, shape)).collect()];
            return Ok(Self { path: path.to_owned(), first, shapes, ranges, parts: Vec::new() });
        };
        let index: Json = serde_json::from_str(&note).map_err(|error| problem(&format!("is no JSON: {error}")))?;
        let list = |key: &str| index[key].as_array().ok_or_else(|| problem(&format!("lacks the list `{key}`")));
        let number =
            |value: &Json| value.as_u64().ok_or_else(|| problem(&format!("has {value} where a count belongs")));
        let shape = |tensor: &Json| -> Result<(String, Vec<usize>)> {
            let name = tensor["name"].as_str().ok_or_else(|| problem("has a tensor without a name"))?;
            let shape = tensor["shape"].as_array().ok_or_else(|| problem("has a tensor without a shape"))?;
            Ok((name.to_owned(), shape.iter().map(|n| Ok(number(n)? as usize)).collect::<Result<_>>()?))
        };
        let shapes = list("tensors")?.iter().map(shape).collect::<Result<Vec<_>>>()?;
        let range = |entry: &Json| -> Result<TensorRange> {
            let (tensor, start, end) = (number(&entry[0])? as usize, number(&entry[1])?, number(&entry[2])?);
            let (name, shape) = shapes.get(tensor).ok_or_else(|| problem(&format!("has no tensor {tensor}")))?;
            if start > end {
                return Err(problem(&format!("has the range {start}..{end}")));
            }
            Ok(TensorRange { name: name.clone(), shape: shape.clone(), range: start..end })
        };
        let of_file = |file: &Json| -> Result<Vec<TensorRange>> {
            file.as_array().ok_or_else(|| problem("has no list of ranges for a file"))?.iter().map(range).collect()
        };
        let ranges = list("ranges")?.iter().map(of_file).collect::<Result<Vec<_>>>()?;
        let name = |part: &Json| {
            // A name with a folder could lead anywhere.
            let plain = part.as_str().filter(|name| Path::new(name).file_name() == Some(OsStr::new(name)));
            plain.map(str::to_owned).ok_or_else(|| problem(&format!("has {part} where the name of a file belongs")))
        };
        let parts = list("parts")?.iter().map(name).collect::<Result<Vec<_>>>()?;
        if number(&index["ranks"])? != parts.len() as u64 + 1 {
            return Err(problem(&format!("has {} files of {} ranks", parts.len() + 1, index["ranks"])));
        }
        if ranges.len() != parts.len() + 1 {
            return Err(problem(&format!("has {} files and the ranges of {}", parts.len() + 1, ranges.len())));
        }
        Ok(Self { path: path.to_owned(), first, shapes, ranges, parts })
    }

    /// The checkpoint of these ranges, from the files that hold any of them.
    fn read(self, wanted: &[TensorRange]) -> Result<Checkpoint> {
        let mut ranges = self.ranges.into_iter();
        let mut parts = vec![(self.first, ranges.next().unwrap_or_default())];
        for (name, held) in self.parts.iter().zip(ranges) {
            let overlaps = |a: &TensorRange, b: &TensorRange| {
                a.name == b.name && a.range.start.max(b.range.start) < a.range.end.min(b.range.end)
            };
            if held.iter().any(|held| wanted.iter().any(|wanted| overlaps(held, wanted))) {
                parts.push((Checkpoint::load(self.path.with_file_name(name))?, held));
            }
        }
        Ok(Checkpoint::from_ranges(&self.path.display().to_string(), &parts, wanted)?)
    }
}

fn all_of(name: &str, shape: &[usize]) -> TensorRange {
    TensorRange { name: name.to_owned(), shape: shape.to_vec(), range: 0..shape.iter().map(|n| *n as u64).product() }
}

/// Removes the parts of other checkpoints at the path. No failure matters: a part that stays is never read.
fn remove_others(path: &Path, parts: &[String]) {
    let (Some(stem), Some(folder)) = (path.file_name().and_then(OsStr::to_str), path.parent()) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if is_part(stem, &name) && !parts.contains(&name) {
            let _ = std::fs::remove_file(folder.join(name));
        }
    }
}

/// Whether this is the name of a part of a checkpoint of this name.
fn is_part(stem: &str, name: &str) -> bool {
    let Some((key, ranks)) =
        name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.')).and_then(|rest| rest.split_once('.'))
    else {
        return false;
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let hex = key.len() == 16 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex && ranks.split_once("-of-").is_some_and(|(rank, size)| digits(rank) && digits(size))
}

/// The shards of a model on any number of ranks, for plans that need no GPU: elements of each rank.
#[must_use]
pub fn elements_per_rank(cuts: &[wgpu_optim::Cut], ranks: usize) -> Vec<u64> {
    shards(cuts, ranks.max(1)).iter().map(|shard| shard.iter().map(|range| range.end - range.start).sum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parts_of_the_same_checkpoint_are_removed() {
        for (name, part) in [
            ("run.ckpt.0123456789abcdef.3-of-4", true),
            ("run.ckpt", false),
            ("run.ckpt.bak", false),
            ("run.ckpt2.0123456789abcdef.3-of-4", false),
            ("run.ckpt.0123456789abcde.3-of-4", false),
            ("run.ckpt.0123456789abcdef.3-of-", false),
            ("run.ckpt.0123456789abcdef.3-of-4.tmp", false),
        ] {
            assert_eq!(is_part("run.ckpt", name), part, "{name}");
        }
    }
}
