//! The cut of a model into shards: the tensors, one after the other, are a list of bytes, which the ranks share out equally.

use std::ops::Range;

use wgpu_optim::Cut;

/// The range of each tensor that each rank steps: `[rank][tensor]`. The ranges of consecutive ranks follow each other, and every element that
/// is not frozen is in one range. A boundary between two ranks is rounded up to where the tensor may be cut.
pub(crate) fn shards(cuts: &[Cut], ranks: usize) -> Vec<Vec<Range<u64>>> {
    let edges: Vec<Vec<u64>> = (0..=ranks).map(|rank| edge(cuts, rank, ranks)).collect();
    let shard = |pair: &[Vec<u64>]| pair[0].iter().zip(&pair[1]).map(|(from, to)| *from..*to).collect();
    edges.windows(2).map(shard).collect()
}

/// The elements of each tensor before the shard of `rank`.
fn edge(cuts: &[Cut], rank: usize, ranks: usize) -> Vec<u64> {
    let bytes = |cut: &Cut| if cut.frozen { 0 } else { cut.elements * cut.params.bytes() };
    let all: u64 = cuts.iter().map(bytes).sum();
    let target = (u128::from(all) * rank as u128).div_ceil(ranks as u128) as u64;
    let mut before = 0;
    let inside = |cut: &Cut| {
        let own = bytes(cut);
        let elements = target.saturating_sub(before).min(own).div_ceil(cut.params.bytes());
        before += own;
        elements.next_multiple_of(cut.unit).min(if cut.frozen { 0 } else { cut.elements })
    };
    cuts.iter().map(inside).collect()
}

/// The whole of every tensor: the one shard of a run in which every rank steps all.
pub(crate) fn whole(cuts: &[Cut]) -> Vec<Range<u64>> {
    cuts.iter().map(|cut| 0..if cut.frozen { 0 } else { cut.elements }).collect()
}

/// The tensors that lie on more than one rank: at most one per boundary.
pub(crate) fn split(shards: &[Vec<Range<u64>>]) -> Vec<usize> {
    let tensors = 0..shards.first().map_or(0, Vec::len);
    tensors.filter(|tensor| shards.iter().filter(|shard| !shard[*tensor].is_empty()).count() > 1).collect()
}

/// For each tensor, the first rank that steps elements of its rule: it has counted the rule's steps.
pub(crate) fn keepers(cuts: &[Cut], shards: &[Vec<Range<u64>>]) -> Vec<usize> {
    let rules = cuts.iter().map(|cut| cut.rule + 1).max().unwrap_or(0);
    let mut first = vec![None; rules];
    for (rank, shard) in shards.iter().enumerate() {
        for (cut, _) in cuts.iter().zip(shard).filter(|(_, range)| !range.is_empty()) {
            first[cut.rule].get_or_insert(rank);
        }
    }
    cuts.iter().map(|cut| first[cut.rule].unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu_optim::{AdamW, Group, Lion, Optimizer, Sgd};

    fn cuts(sizes: &[usize], storage: &str) -> Vec<Cut> {
        let mut builder = Optimizer::builder(AdamW::default());
        for (i, n) in sizes.iter().enumerate() {
            builder.tensor(Group::DEFAULT, format!("t{i}"), &[*n]);
        }
        builder.storage(storage.parse().expect("a storage"));
        builder.cuts().expect("cuts")
    }

    /// Bytes of parameters of each rank.
    fn bytes(cuts: &[Cut], ranks: usize) -> Vec<u64> {
        let shards = shards(cuts, ranks);
        for (t, cut) in cuts.iter().enumerate() {
            let mut end = 0;
            for shard in &shards {
                assert_eq!(shard[t].start, end, "the ranges follow each other");
                end = shard[t].end;
                assert!(end.is_multiple_of(cut.unit) || end == cut.elements);
            }
            assert_eq!(end, cut.elements);
        }
        assert!(split(&shards).len() < ranks);
        shards
            .iter()
            .map(|shard| {
                shard.iter().zip(cuts).map(|(range, cut)| (range.end - range.start) * cut.params.bytes()).sum()
            })
            .collect()
    }

    #[test]
    fn shards_are_equal_up_to_a_chunk() {
        for storage in ["f32", "bf16-sr,8bit"] {
            for sizes in [&[1 << 20][..], &[5000, 7, 0, 1024, 9001, 300], &[100; 300], &[1 << 18, 3, 1 << 18]] {
                for ranks in [1, 2, 3, 4, 7] {
                    let bytes = bytes(&cuts(sizes, storage), ranks);
                    let (least, most) = (bytes.iter().min().copied(), bytes.iter().max().copied());
                    assert!(
                        most.zip(least).is_some_and(|(most, least)| most - least <= 2 * 4096),
                        "{sizes:?} {ranks}: {bytes:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn few_elements_leave_ranks_empty_and_the_first_has_some() {
        assert_eq!(bytes(&cuts(&[10], "f32"), 4), [40, 0, 0, 0]);
        assert_eq!(bytes(&cuts(&[0], "f32"), 2), [0, 0]);
        assert_eq!(bytes(&cuts(&[2000], "f32"), 3), [4096, 3904, 0]);
    }

    #[test]
    fn row_sets_and_frozen_tensors_are_not_cut() {
        let mut builder = Optimizer::builder(AdamW::default());
        let rows = builder.tensor(Group::DEFAULT, "rows", &[3000, 3]);
        builder.tensor(Group::DEFAULT, "w", &[3000, 3]);
        let frozen = builder.tensor(Group::DEFAULT, "frozen", &[3000]);
        builder.freeze(frozen).row_set("set", &[rows]);
        let cuts = builder.cuts().expect("cuts");
        let shards = shards(&cuts, 3);
        assert_eq!(split(&shards), [1]);
        assert!(shards.iter().all(|shard| shard[2] == (0..0)));
        assert_eq!(whole(&cuts), [0..9000, 0..9000, 0..0]);
    }
    #[test]
    fn a_frozen_tensor_is_with_the_first_rank_that_steps_its_rule() {
        let mut builder = Optimizer::builder(AdamW::default());
        let other = builder.group("other", Lion::default());
        let unused = builder.group("unused", Sgd { lr: 0.1, ..Sgd::default() });
        builder.tensor(Group::DEFAULT, "w", &[9000]);
        builder.tensor(other, "b", &[300]);
        for (group, name) in [(Group::DEFAULT, "of w"), (other, "of b"), (unused, "of none")] {
            let frozen = builder.tensor(group, name, &[9]);
            builder.freeze(frozen);
        }
        let cuts = builder.cuts().expect("cuts");
        assert_eq!(keepers(&cuts, &shards(&cuts, 3)), [0, 2, 0, 2, 0]);
        assert_eq!(keepers(&cuts, &[whole(&cuts)]), [0; 5]);
    }
}
