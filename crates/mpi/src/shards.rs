//! The cut of a model into shards of equally many bytes. A tensor that must stay whole goes to one rank. The other tensors, one after the other,
//! are a list of bytes, which fills the ranks up.

use std::ops::Range;

use wgpu_optim::Cut;

/// The range of each tensor that each rank steps: `[rank][tensor]`. The ranges of a tensor follow each other from rank to rank, and every element
/// that is not frozen is in one range. A boundary between two ranks is rounded up to where the tensor may be cut.
pub(crate) fn shards(cuts: &[Cut], ranks: usize) -> Vec<Vec<Range<u64>>> {
    let (owners, loads) = owners(cuts, ranks);
    let rest = cuts.iter().filter(|cut| !cut.whole).map(bytes).sum();
    let edges: Vec<Vec<u64>> = fill(rest, &loads).into_iter().map(|end| cut_at(cuts, end)).collect();
    let of_rank = |(rank, pair): (usize, &[Vec<u64>])| {
        let range = |(tensor, owner): (usize, &Option<usize>)| match owner {
            None => pair[0][tensor]..pair[1][tensor],
            Some(owner) => {
                let end = |past: bool| if past { cuts[tensor].elements } else { 0 };
                end(rank > *owner)..end(rank >= *owner)
            }
        };
        owners.iter().enumerate().map(range).collect()
    };
    edges.windows(2).enumerate().map(of_rank).collect()
}

/// The bytes of a tensor that ranks share out.
const fn bytes(cut: &Cut) -> u64 {
    if cut.frozen { 0 } else { cut.elements * cut.params.bytes() }
}

/// The rank of each tensor that must stay whole, and the bytes that each rank has of them. The largest tensors come first, each to the rank with
/// the fewest bytes so far, and of equals to the first.
fn owners(cuts: &[Cut], ranks: usize) -> (Vec<Option<usize>>, Vec<u64>) {
    let (mut owners, mut loads) = (vec![None; cuts.len()], vec![0; ranks]);
    let mut whole: Vec<usize> =
        (0..cuts.len()).filter(|tensor| cuts[*tensor].whole && bytes(&cuts[*tensor]) > 0).collect();
    whole.sort_by_key(|tensor| std::cmp::Reverse(bytes(&cuts[*tensor])));
    for tensor in whole {
        let lightest = (0..ranks).min_by_key(|rank| loads[*rank]).unwrap_or(0);
        owners[tensor] = Some(lightest);
        loads[lightest] += bytes(&cuts[tensor]);
    }
    (owners, loads)
}

/// The boundaries between the ranks in a list of `rest` bytes, of which the ranks with the least load get so much that they end up equal.
fn fill(rest: u64, loads: &[u64]) -> Vec<u64> {
    let mut sorted = loads.to_vec();
    sorted.sort_unstable();
    // The first ranks in this order share `rest`, up to the load of the next one.
    let below = |count: usize| sorted[..count].iter().map(|load| u128::from(*load)).sum::<u128>() + u128::from(rest);
    let fits = |count: &usize| below(*count) > u128::from(sorted[count - 1]) * *count as u128;
    let count = (1..=sorted.len()).rev().find(fits).unwrap_or(1);
    let (level, parts) = (below(count), count as u128);
    let mut end = 0;
    let share = |load: &u64| {
        end += level.saturating_sub(u128::from(*load) * parts);
        end.div_ceil(parts).min(u128::from(rest)) as u64
    };
    std::iter::once(0).chain(loads.iter().map(share)).collect()
}

/// The elements of each tensor before a byte of the list of those that may be cut.
fn cut_at(cuts: &[Cut], byte: u64) -> Vec<u64> {
    let mut before = 0;
    let inside = |cut: &Cut| {
        if cut.whole || cut.frozen {
            return 0;
        }
        let elements = byte.saturating_sub(before).min(bytes(cut)).div_ceil(cut.params.bytes());
        before += bytes(cut);
        elements.next_multiple_of(cut.unit).min(cut.elements)
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
    use wgpu_optim::{AdamW, Group, Lion, Muon, Optimizer, Sgd};

    fn cuts(sizes: &[usize], storage: &str) -> Vec<Cut> {
        let mut builder = Optimizer::builder(AdamW::default());
        for (i, n) in sizes.iter().enumerate() {
            builder.tensor(Group::DEFAULT, format!("t{i}"), &[*n]);
        }
        builder.storage(storage.parse().expect("a storage"));
        builder.cuts().expect("cuts")
    }

    /// Bytes of parameters of each rank.
    fn bytes_of(cuts: &[Cut], ranks: usize) -> Vec<u64> {
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
                    let bytes = bytes_of(&cuts(sizes, storage), ranks);
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
        assert_eq!(bytes_of(&cuts(&[10], "f32"), 4), [40, 0, 0, 0]);
        assert_eq!(bytes_of(&cuts(&[0], "f32"), 2), [0, 0]);
        assert_eq!(bytes_of(&cuts(&[2000], "f32"), 3), [4096, 3904, 0]);
    }

    #[test]
    fn whole_tensors_go_to_the_rank_with_the_least_and_the_rest_fills_up() {
        let mut builder = Optimizer::builder(AdamW::default());
        let matrices = builder.group("matrices", Muon::default());
        for (i, rows) in [30, 40, 10, 20, 20].into_iter().enumerate() {
            builder.tensor(matrices, format!("m{i}"), &[rows, 1024]);
            builder.tensor(Group::DEFAULT, format!("v{i}"), &[8 * 1024]);
        }
        let cuts = builder.cuts().expect("cuts");
        let own = |ranks: usize, rank: usize| -> Vec<(usize, Range<u64>)> {
            let shard = shards(&cuts, ranks).swap_remove(rank).into_iter().enumerate();
            shard
                .filter(|(_, range)| !range.is_empty())
                .map(|(t, range)| (t, range.start / 1024..range.end / 1024))
                .collect()
        };
        // 120 rows and 40 chunks: 40, then 20 rows beside 30, 20 and 10, and half of the chunks for each.
        assert_eq!(own(2, 0), [(1, 0..8), (2, 0..40), (3, 0..8), (5, 0..4), (8, 0..20)]);
        assert_eq!(own(2, 1), [(0, 0..30), (4, 0..10), (5, 4..8), (6, 0..20), (7, 0..8), (9, 0..8)]);
        // The largest matrix alone is a fourth of all: its rank gets no chunk.
        assert_eq!(own(4, 0), [(2, 0..40)]);
        assert_eq!(own(4, 1), [(0, 0..30), (1, 0..8), (3, 0..2)]);
        for ranks in [1, 2, 3, 4, 7, 20] {
            let bytes = bytes_of(&cuts, ranks);
            assert!(
                bytes.iter().all(|bytes| *bytes <= (160_u64.div_ceil(ranks as u64).max(40) + 1) * 4096),
                "{bytes:?}"
            );
        }
        // The least loads come to 5.5 and stay below 7, or all come to 30.75.
        let loads = [7, 3, 4, 9];
        assert_eq!(fill(4, &loads), [0, 0, 3, 4, 4]);
        assert_eq!(fill(0, &loads), [0; 5]);
        assert_eq!(fill(100, &loads), [0, 24, 52, 79, 100]);
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
