// The sums, first half: each workgroup walks one span of one tensor and leaves a row of partial sums. Nothing else is written.
// The order of additions is fixed and there are no float atomics: the same bits on every run.

// Where a vec4 lies: its tensor, its number there, and in the arena.
struct wo_Place { tensor: u32, index: u32, at: u32, stride: u32 }

var<workgroup> wo_columns: array<array<f32, wo_SUM_LANES>, wo_SUMS>;

@compute @workgroup_size(wo_SUM_LANES)
fn wo_stats(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup.y * grid.x + workgroup.x + wo_first_record();
    let span = wo_chunk(index);
    let h = wo_hyper(span.group, wo_control.applied);
    let e = wo_extra(span.group, wo_control.applied);
    // The first round's conclusion may already have changed the scale for the next step.
    let unscale = select(1.0 / wo_control.scale, wo_control.unscale, wo_SECOND_ROUND);
    var sums = array<vec4<f32>, wo_SUMS>();
    let vectors = (span.length + 3u) / 4u;
    let stride = wo_stride();
    // Eight lanes walk a stretch of their own, eight vec4s (a line of memory) at a time. A software GPU runs eight lanes to the end of the
    // loop before the next eight: walking with all lanes abreast, it read every eighth line and took 1.5 to 2.5 times as long.
    let share = (vectors + wo_SUM_LANES - 1u) / wo_SUM_LANES * 8u;
    let begin = lane / 8u * share;
    let end = min(begin + share, vectors);
    for (var i = begin + lane % 8u; i < end; i += 8u) {
        let first = i * 4u;
        let live = vec4(first, first + 1u, first + 2u, first + 3u) < vec4(span.length);
        let flagged = wo_flagged(span, i, wo_used(span, i, live));
        if wo_ROWS && !any(flagged) {
            continue;
        }
        let s = wo_load_state(span.state + i, stride);
        let raw = wo_raw_gradient(span, i, span.state + i, stride);
        let stepped = wo_moved(raw, flagged);
        var g = wo_prepare(raw, e, unscale);
        if wo_CLIP_NORM && wo_SECOND_ROUND {
            g *= wo_load_clip(span.tensor);
        }
        let place = wo_Place(span.tensor, span.position / 4u + i, span.state + i, stride);
        let terms = wo_terms(h, place, wo_load_param(span, i, place.at, stride), raw, g, s);
        for (var k = 0u; k < wo_SUMS; k++) {
            sums[k] += select(vec4(0.0), terms[k], stepped);
        }
    }
    for (var k = 0u; k < wo_SUMS; k++) {
        wo_columns[k][lane] = (sums[k].x + sums[k].y) + (sums[k].z + sums[k].w);
    }
    workgroupBarrier();
    if lane < wo_SUMS && span.length > 0u {
        var column = 0.0;
        for (var k = 0u; k < wo_SUM_LANES; k++) {
            column += wo_columns[lane][k];
        }
        wo_partials[span.row * wo_SUMS + lane] = column;
    }
}
