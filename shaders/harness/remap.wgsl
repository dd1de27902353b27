// Rows change places, for one array of a launch at a time: gathered into the scratch, because a row may be wanted in several places and
// its own may be wanted by another, and brought back.

fn wo_first_vec4(chunk: wo_Chunk, array: u32) -> u32 {
    if array == 0u {
        return chunk.param - chunk.position / 4u;
    }
    return chunk.state - chunk.position / 4u + (array - 1u) * wo_stride();
}

fn wo_array(array: u32, at: u32) -> vec4<f32> {
    if array == 0u {
        return wo_param(at);
    }
    return wo_arena[at];
}

// Whether the call leaves these lanes as they are.
fn wo_rests(chunk: wo_Chunk, member: wo_Member, lane: u32) -> bool {
    return lane * 4u >= chunk.length || member.task == 0u || wo_elements(chunk, lane).x >= member.live;
}

// What comes to lie at `element`. An index that names no row in use, u32::MAX among them, makes a fresh row.
fn wo_gathered(chunk: wo_Chunk, member: wo_Member, element: u32) -> f32 {
    if element >= member.live {
        return 0.0;
    }
    let row = wo_indices[element / member.width];
    if row >= member.source {
        return wo_initial(wo_task.x);
    }
    let source = row * member.width + element % member.width;
    return wo_array(wo_task.x, wo_first_vec4(chunk, wo_task.x) + source / 4u)[source % 4u];
}

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_gather(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunk = wo_chunk(workgroup.y * grid.x + workgroup.x);
    let member = wo_member(chunk.tensor);
    let element = wo_elements(chunk, lane);
    if wo_rests(chunk, member, lane) {
        return;
    }
    wo_scratch[chunk.state - wo_ARENA_HEADER + lane] = vec4(
        wo_gathered(chunk, member, element.x),
        wo_gathered(chunk, member, element.y),
        wo_gathered(chunk, member, element.z),
        wo_gathered(chunk, member, element.w),
    );
}

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_scatter(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunk = wo_chunk(workgroup.y * grid.x + workgroup.x);
    let member = wo_member(chunk.tensor);
    let element = wo_elements(chunk, lane);
    if wo_rests(chunk, member, lane) {
        return;
    }
    let at = wo_first_vec4(chunk, wo_task.x) + element.x / 4u;
    let value = select(wo_array(wo_task.x, at), wo_scratch[chunk.state - wo_ARENA_HEADER + lane], element < vec4(member.live));
    if wo_task.x == 0u {
        wo_put_param(at, value);
    } else {
        wo_arena[at] = value;
    }
}

// States begin anew, and averages at the weights.
@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_reset(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunk = wo_chunk(workgroup.y * grid.x + workgroup.x);
    let member = wo_member(chunk.tensor);
    let element = wo_elements(chunk, lane);
    if wo_rests(chunk, member, lane) {
        return;
    }
    var chosen = element < vec4(member.live);
    if member.task == 1u {
        let row = min(element, vec4(member.live - 1u)) / member.width;
        chosen &= vec4(wo_indices[row.x], wo_indices[row.y], wo_indices[row.z], wo_indices[row.w]) != vec4(0u);
    }
    let p = wo_param(chunk.param + lane);
    for (var array = 1u; array <= wo_STATES; array++) {
        let at = chunk.state + lane + (array - 1u) * wo_stride();
        var first = vec4(wo_initial(array));
        if wo_EMA && array == wo_AVERAGE + 1u {
            first = p;
        }
        wo_arena[at] = select(wo_arena[at], first, chosen);
    }
}
