// A thread's number in a dispatch with 64 lanes per workgroup. A grid that is too long for one dimension takes two.
fn thread_number(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return (group.y * groups.x + group.x) * 64u + lane;
}
