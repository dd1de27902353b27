// A thread's number in a launch of 64 lanes a workgroup, whose grid is folded where it would be too long.
fn thread_number(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return (group.y * groups.x + group.x) * 64u + lane;
}
