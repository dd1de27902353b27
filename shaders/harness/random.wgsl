// Counter-based random numbers: every value is a function of a key and a counter, so that results do not
// depend on the launch's shape. src/objective/random.rs holds the same functions.

fn wo_pcg(x: u32) -> u32 {
    let s = x * 747796405u + 2891336453u;
    let w = ((s >> ((s >> 28u) + 4u)) ^ s) * 277803737u;
    return (w >> 22u) ^ w;
}

fn wo_draw(key: u32, counter: u32) -> u32 {
    return wo_pcg(key ^ wo_pcg(counter));
}

// A bijection of the words below a power of two: each of the three operations can be undone there.
// Fewer than eight rounds leave some orders of few things measurably more likely.
fn wo_scatter(word: u32, mask: u32, key: u32) -> u32 {
    let half = max(countOneBits(mask) / 2u, 1u);
    var x = word;
    for (var r = 0u; r < 8u; r++) {
        let k = wo_draw(key, r);
        x = ((x + k) * (wo_pcg(k) | 1u)) & mask;
        x ^= x >> half;
    }
    return x;
}

// Where `position` of a shuffled list of `count` things is taken from; `position` is below `count`.
fn wo_place(position: u32, count: u32, key: u32) -> u32 {
    let mask = 0xffffffffu >> countLeadingZeros((count - 1u) | 1u);
    var x = wo_scatter(position, mask, key);
    while (x >= count) { // walking the bijection's cycle comes back below `count`
        x = wo_scatter(x, mask, key);
    }
    return x;
}
