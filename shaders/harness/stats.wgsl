// The first half of the sums: each workgroup walks one span of one tensor and writes one row of partial sums.
// The order of additions is fixed and there are no float atomics, so that the bits are the same on every run.

var<workgroup> wo_columns: array<array<f32, wo_SUM_LANES>, wo_SUMS>;

@compute @workgroup_size(wo_SUM_LANES)
fn wo_stats(thread: wo_Thread) {
    let lane = thread.lane;
    let span = wo_chunk(wo_record(thread));
#if READS_GRADIENT
    let c = wo_common(span);
#endif
#if PARTIAL
    let takes = wo_takes(span.tensor);
#endif
    var sums = array<vec4<f32>, wo_SUMS>();
    let vectors = (span.length + 3u) / 4u;
    let stride = wo_stride();
    // Each group of eight lanes reads its own part of the span, eight vec4s (a line of memory) at a time. A software GPU runs eight lanes to
    // the end of the loop before the next eight. When all lanes read one part, it read every eighth line and took 1.5 to 2.5 times as long.
    let share = (vectors + wo_SUM_LANES - 1u) / wo_SUM_LANES * 8u;
    let begin = lane / 8u * share;
    let end = min(begin + share, vectors);
    for (var i = begin + lane % 8u; i < end; i += 8u) {
        let l = wo_lane(span, i, stride);
        var stepped = l.live;
#if ROWS
        stepped = wo_used(l);
#endif
#if MASK
        stepped = wo_flagged(l, stepped);
#endif
#if PARTIAL
        stepped &= vec4(takes);
#endif
#if LEAVES
        if !any(stepped) {
            continue;
        }
#endif
#if READS_GRADIENT
        let raw = wo_raw_gradient(l);
        // The test for finite numbers reads the unclipped gradient, because a clip by value would hide an infinity.
        var unclipped = raw;
#if WEIGHS
        unclipped = wo_weighed(raw, c);
#endif
        var g = raw;
#if PREPARES
        g = wo_prepare(raw, c);
#endif
#endif
#if NONZERO
        stepped = wo_moved(raw, stepped);
#endif
#if OWN_TERMS
        let terms = wo_terms(wo_procedure_terms(l));
#elif CONTRIBUTES
#if ROW_STEPS
        let own = wo_contribute_at(l, c, wo_load_param(l), g, wo_row_steps(l), wo_load_state(l));
        let terms = wo_terms(own, unclipped, g);
#else
        let terms = wo_terms(contribute(c.h, wo_load_param(l), g, wo_load_state(l)), unclipped, g);
#endif
#else
        let terms = wo_terms(unclipped, g);
#endif
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
