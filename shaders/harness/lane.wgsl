// The place of a thread's elements, and the values that its whole chunk shares. Every entry point over chunks or spans begins here.

struct wo_Thread {
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
}

// The number of a workgroup. The grid has two dimensions, because one dimension ends at 65535 workgroups.
fn wo_workgroup(thread: wo_Thread) -> u32 {
    return thread.workgroup.y * thread.grid.x + thread.workgroup.x;
}

// The number of a workgroup's record. Where gradients are rebound, a dispatch covers one run of the records.
fn wo_record(thread: wo_Thread) -> u32 {
#if DYNAMIC_GRADIENTS
    return wo_run.x + wo_workgroup(thread);
#else
    return wo_workgroup(thread);
#endif
}

// A record is read in two loads of four numbers: with eight single loads a software GPU took 1.5 times as long.
fn wo_chunk(record: u32) -> wo_Chunk {
    let place = wo_chunks[2u * record];
    let owner = wo_chunks[2u * record + 1u];
    return wo_Chunk(place.x, place.y, place.z, place.w, owner.x, owner.y, owner.z, owner.w);
}

// Four elements of a tensor: one thread's share.
struct wo_Lane {
    chunk: wo_Chunk,
    number: u32,        // the number of the vec4 in its chunk
    state: u32,         // the vec4 in the arena's first array
    stride: u32,        // vec4s from one array of the arena to the next
    live: vec4<bool>,   // true for the tensor's elements; elements past its end belong to the caller and keep their bits
}

fn wo_lane(chunk: wo_Chunk, number: u32, stride: u32) -> wo_Lane {
    return wo_Lane(chunk, number, chunk.state + number, stride, wo_four(4u * number) < vec4(chunk.length));
}

fn wo_four(first: u32) -> vec4<u32> {
    return vec4(first, first + 1u, first + 2u, first + 3u);
}

fn wo_is_past_end(l: wo_Lane) -> bool {
    return 4u * l.number >= l.chunk.length;
}

// The number of the lane's vec4 in its tensor.
fn wo_vec4_of_tensor(l: wo_Lane) -> u32 {
    return l.chunk.position / 4u + l.number;
}

// The values that all lanes of a chunk share.
struct wo_Common {
    step_count: u32,
    h: Hyper,
#if EXTRA
    e: wo_Extra,
#endif
#if MEAN
    window: f32,
#endif
#if UNSCALES
    unscale: f32,
#endif
#if CLIPS_BY_NORM
    clip: f32,
#endif
#if SKIPS
    skip: bool,
#endif
}

// Loads the members before any thread returns: a software GPU loads them faster while all threads are active.
fn wo_common(chunk: wo_Chunk) -> wo_Common {
    let step_count = wo_control.step_count;
    return wo_Common(
        step_count,
#if AT_COUNT
        wo_hyper_of(chunk.group, chunk.tensor, step_count),
#else
        wo_hyper(chunk.group, step_count),
#endif
#if EXTRA
        wo_extra(chunk.group, step_count),
#endif
#if MEAN
        wo_window(),
#endif
#if UNSCALES_FIRST
        // wo_control.unscale belongs to the previous step until wo_conclude_step has run.
        1.0 / wo_control.scale,
#elif UNSCALES
        // wo_conclude_step may already have changed wo_control.scale for the next step.
        wo_control.unscale,
#endif
#if CLIPS_BY_NORM
        wo_load_clip(chunk.tensor),
#endif
#if SKIPS
        wo_control.skip != 0u,
#endif
    );
}
