// P g, block by block. P's column j over all elements is an array of the arena: element i of it is P_ij of i's block. Four rows a
// thread read a column together; the gradient's other elements come from workgroup memory. A chunk holds whole blocks.

var<workgroup> wo_block_g: array<f32, wo_CHUNK>;
var<workgroup> wo_block_before: array<f32, wo_CHUNK>;
var<workgroup> wo_block_a: array<f32, wo_CHUNK>;

// A block's sum of squares; reads past the tensor's end are zeros that the chunk's lanes wrote.
fn wo_square(first: u32, of_a: bool) -> f32 {
    var sum = 0.0;
    for (var j = 0u; j < wo_BLOCK; j++) {
        let x = select(wo_block_before[first + j], wo_block_a[first + j], of_a);
        sum += x * x;
    }
    return sum;
}

// What learning multiplies with where each block's factors have length one.
fn wo_rate_of(h: Hyper, block: u32) -> f32 {
    let norms = sqrt(wo_square(block, true)) * sqrt(wo_square(block, false));
    return select(0.0, h.learn / norms, norms > 0.0);
}

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_warp(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunk = wo_chunk(workgroup.y * grid.x + workgroup.x + wo_first_record());
    let h = wo_hyper(chunk.group, wo_control.applied);
    let e = wo_extra(chunk.group, wo_control.applied);
    let stride = wo_stride();
    let state = chunk.state + lane;
    let first = lane * 4u;
    let live = vec4(first, first + 1u, first + 2u, first + 3u) < vec4(chunk.length);
    let works = first < chunk.length && !(wo_CAN_SKIP && wo_control.skip != 0u);
    var g = vec4(0.0);
    var a = vec4(0.0);
    var before = vec4(0.0);
    if works {
        g = wo_prepare(wo_raw_gradient(chunk, lane, state, stride), e, wo_control.unscale);
        if wo_CLIP_NORM {
            g *= wo_load_clip(chunk.tensor);
        }
        g = select(vec4(0.0), g, live);
        if wo_LEARNED {
            // At the first step there is nothing to learn from, and a would be as large as 1/ε.
            a = select(vec4(0.0), influence(h, g, wo_load_state(state, stride)), live & vec4(h.learn != 0.0));
            before = wo_arena[state + wo_BEFORE * stride];
        }
    }
    for (var i = 0u; i < 4u; i++) {
        wo_block_g[first + i] = g[i];
        if wo_LEARNED {
            wo_block_a[first + i] = a[i];
            wo_block_before[first + i] = before[i];
        }
    }
    workgroupBarrier();
    if !works {
        return;
    }
    // A block may be smaller than the four rows of a thread: then each row has its own.
    let blocks = (vec4(first, first + 1u, first + 2u, first + 3u) / wo_BLOCK) * wo_BLOCK;
    var rate = vec4(h.learn);
    if wo_LEARNED && NORMALISED {
        rate = vec4(wo_rate_of(h, blocks.x));
        for (var i = 1u; i < 4u && wo_BLOCK < 4u; i++) {
            rate[i] = wo_rate_of(h, blocks[i]);
        }
    }
    let rows = vec4(first, first + 1u, first + 2u, first + 3u) - blocks;
    var w = vec4(0.0);
    for (var j = 0u; j < wo_BLOCK; j++) {
        let column = state + (wo_MATRIX + j) * stride;
        let source = blocks + vec4(j);
        // Mostly the four rows are of one block, and one number serves them all.
        var from_g = vec4(wo_block_g[source.x]);
        if wo_BLOCK < 4u {
            from_g = vec4(wo_block_g[source.x], wo_block_g[source.y], wo_block_g[source.z], wo_block_g[source.w]);
        }
        var p = wo_arena[column];
        if wo_LEARNED {
            var last = vec4(wo_block_before[source.x]);
            if wo_BLOCK < 4u {
                last = vec4(
                    wo_block_before[source.x], wo_block_before[source.y], wo_block_before[source.z], wo_block_before[source.w]);
            }
            p = h.keep * (p + rate * a * last) + select(vec4(0.0), vec4(h.anchor), rows == vec4(j));
            wo_arena[column] = p;
        }
        w += p * from_g;
    }
    wo_arena[state + wo_WARPED * stride] = w;
    if wo_LEARNED {
        wo_arena[state + wo_BEFORE * stride] = g;
    }
}

// Once, at construction: P is the identity.
@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_identity(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunk = wo_chunk(workgroup.y * grid.x + workgroup.x);
    let first = lane * 4u;
    if first < chunk.length {
        let rows = vec4(first, first + 1u, first + 2u, first + 3u) % wo_BLOCK;
        for (var j = 0u; j < wo_BLOCK; j++) {
            wo_arena[chunk.state + lane + (wo_MATRIX + j) * wo_stride()] = select(vec4(0.0), vec4(1.0), rows == vec4(j));
        }
    }
}
