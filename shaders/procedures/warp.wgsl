// Computes P g, block by block. Column j of all blocks of P is one array of the arena: its element i is P_ij of the block with element i. A
// thread reads four rows of a column together. The other elements of the gradient come from workgroup memory. A chunk holds whole blocks.

var<workgroup> wo_block_g: array<f32, wo_CHUNK>;
#if LEARNED
var<workgroup> wo_block_before: array<f32, wo_CHUNK>;
var<workgroup> wo_block_a: array<f32, wo_CHUNK>;

// The sum of squares of a block. Past the tensor's end the lanes of the chunk wrote zeros.
fn wo_square(first: u32, of_a: bool) -> f32 {
    var sum = 0.0;
    for (var j = 0u; j < wo_BLOCK; j++) {
        let x = select(wo_block_before[first + j], wo_block_a[first + j], of_a);
        sum += x * x;
    }
    return sum;
}

// The learning factor of a block for NORMALISED: `a` and the previous gradient are scaled to length 1 in each block.
fn wo_rate_of(h: Hyper, block: u32) -> f32 {
    let norms = sqrt(wo_square(block, true)) * sqrt(wo_square(block, false));
    return select(0.0, h.learn / norms, norms > 0.0);
}
#endif

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_warp(thread: wo_Thread) {
    let chunk = wo_chunk(wo_record(thread));
    let c = wo_common(chunk);
    let l = wo_lane(chunk, thread.lane, wo_stride());
    let first = 4u * l.number;
#if PARTIAL
    let works = !wo_is_past_end(l) && wo_control.skip == 0u && wo_takes(chunk.tensor);
#elif SKIPS
    let works = !wo_is_past_end(l) && !c.skip;
#else
    let works = !wo_is_past_end(l);
#endif
    var g = vec4(0.0);
#if LEARNED
    var a = vec4(0.0);
    var before = vec4(0.0);
#endif
    if works {
        g = wo_raw_gradient(l);
#if PREPARES
        g = wo_prepare(g, c);
#endif
        g = select(vec4(0.0), g, l.live);
#if LEARNED
        // The first step has no previous step to learn from, and `a` would be as large as 1/ε.
        a = select(vec4(0.0), influence(c.h, g, wo_load_state(l)), l.live & vec4(c.h.learn != 0.0));
        before = wo_arena[wo_at(l, wo_BEFORE)];
#endif
    }
    for (var i = 0u; i < 4u; i++) {
        wo_block_g[first + i] = g[i];
#if LEARNED
        wo_block_a[first + i] = a[i];
        wo_block_before[first + i] = before[i];
#endif
    }
    workgroupBarrier();
    if !works {
        return;
    }
    // A block may be smaller than the four rows of a thread. Then the rows belong to different blocks.
    let blocks = wo_four(first) / wo_BLOCK * wo_BLOCK;
#if LEARNED
    var rate = vec4(c.h.learn);
    if NORMALISED {
        rate = vec4(wo_rate_of(c.h, blocks.x));
        for (var i = 1u; i < 4u && wo_BLOCK < 4u; i++) {
            rate[i] = wo_rate_of(c.h, blocks[i]);
        }
    }
    let rows = wo_four(first) - blocks;
#endif
    var w = vec4(0.0);
    for (var j = 0u; j < wo_BLOCK; j++) {
        let column = wo_at(l, wo_MATRIX + j);
        let source = blocks + vec4(j);
        // Usually the four rows belong to one block and share one number.
        var from_g = vec4(wo_block_g[source.x]);
        if wo_BLOCK < 4u {
            from_g = vec4(wo_block_g[source.x], wo_block_g[source.y], wo_block_g[source.z], wo_block_g[source.w]);
        }
        var p = wo_arena[column];
#if LEARNED
        var last = vec4(wo_block_before[source.x]);
        if wo_BLOCK < 4u {
            last = vec4(
                wo_block_before[source.x], wo_block_before[source.y], wo_block_before[source.z], wo_block_before[source.w]);
        }
        p = c.h.keep * (p + rate * a * last) + select(vec4(0.0), vec4(c.h.anchor), rows == vec4(j));
        wo_arena[column] = p;
#endif
        w += p * from_g;
    }
    wo_arena[wo_at(l, wo_WARPED)] = w;
#if LEARNED
    wo_arena[wo_at(l, wo_BEFORE)] = g;
#endif
}
