// Moves rows to new places, one array at a time. A first pass gathers the new rows into the scratch, because several rows may copy one row
// while another row takes its place. A second pass copies them back.

// The first vec4 of the lane's tensor in an array: the parameters are array 0, the arena's arrays follow.
fn wo_first_vec4(l: wo_Lane, array: u32) -> u32 {
    if array == 0u {
        return l.chunk.param - l.chunk.position / 4u;
    }
    return wo_at(l, array - 1u) - wo_vec4_of_tensor(l);
}

fn wo_array(array: u32, at: u32) -> vec4<f32> {
    if array == 0u {
        return wo_param(at);
    }
    return wo_arena[at];
}

// Whether the call changes none of the lane's elements.
fn wo_rests(l: wo_Lane, member: wo_Member) -> bool {
    return wo_is_past_end(l) || member.task == 0u || wo_elements(l).x >= member.live;
}

// The new number at `element`. An index that names no row in use, such as u32::MAX, makes a fresh row.
fn wo_gathered(l: wo_Lane, member: wo_Member, element: u32) -> f32 {
    if element >= member.live {
        return 0.0;
    }
    let row = wo_indices[element / member.width];
    if row >= member.source {
        return wo_initial(wo_task.x);
    }
    let source = row * member.width + element % member.width;
    return wo_array(wo_task.x, wo_first_vec4(l, wo_task.x) + source / 4u)[source % 4u];
}

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_gather(thread: wo_Thread) {
    let l = wo_lane(wo_chunk(wo_workgroup(thread)), thread.lane, wo_stride());
    let member = wo_member(l.chunk.tensor);
    if wo_rests(l, member) {
        return;
    }
    let element = wo_elements(l);
    wo_scratch[l.state - wo_ARENA_HEADER] = vec4(
        wo_gathered(l, member, element.x),
        wo_gathered(l, member, element.y),
        wo_gathered(l, member, element.z),
        wo_gathered(l, member, element.w),
    );
}

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_scatter(thread: wo_Thread) {
    let l = wo_lane(wo_chunk(wo_workgroup(thread)), thread.lane, wo_stride());
    let member = wo_member(l.chunk.tensor);
    if wo_rests(l, member) {
        return;
    }
    let element = wo_elements(l);
    let at = wo_first_vec4(l, wo_task.x) + element.x / 4u;
    let value = select(wo_array(wo_task.x, at), wo_scratch[l.state - wo_ARENA_HEADER], element < vec4(member.live));
    if wo_task.x == 0u {
        wo_put_param(at, value);
    } else {
        wo_arena[at] = value;
    }
}

// Sets the states to their first values, and the averages to the weights.
@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_reset(thread: wo_Thread) {
    let l = wo_lane(wo_chunk(wo_workgroup(thread)), thread.lane, wo_stride());
    let member = wo_member(l.chunk.tensor);
    if wo_rests(l, member) {
        return;
    }
    let element = wo_elements(l);
    var chosen = element < vec4(member.live);
    if member.task == 1u {
        let row = min(element, vec4(member.live - 1u)) / member.width;
        chosen &= vec4(wo_indices[row.x], wo_indices[row.y], wo_indices[row.z], wo_indices[row.w]) != vec4(0u);
    }
    for (var array = 0u; array < wo_STATES; array++) {
        let at = wo_at(l, array);
        var first = vec4(wo_initial(array + 1u));
#if EMA
        if array == wo_AVERAGE {
            first = wo_param(l.chunk.param + l.number);
        }
#endif
        wo_arena[at] = select(wo_arena[at], first, chosen);
    }
}
