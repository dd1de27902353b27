// What one dispatch over matrices does. A dynamic offset picks the record.

struct wo_Work {
    first: u32,        // first record in the kernel's table
    count: u32,
    matrices: u32,     // first record in the table of matrices, or of slots
    flags: u32,        // wo_ADDS and the flags after it
    begin: u32,         // rows of the output that the page shows
    end: u32,
    depth_begin: u32,   // the sums run over these rows of A or B
    depth_end: u32,
    numbers: vec4<f32>,   // a, b, c and ε
    array: u32,        // first element of the array in the arena
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

// A matrix with at least as many rows as columns.
struct wo_Matrix {
    first: u32,     // first element in the page
    rows: u32,
    columns: u32,
    gram: u32,      // first element of A, and of B
    factor: f32,    // k
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

struct wo_Thread {
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
}

// The number of a workgroup. The grid has two dimensions, because one dimension ends at 65535 workgroups.
fn wo_workgroup(thread: wo_Thread) -> u32 {
    return thread.workgroup.y * thread.grid.x + thread.workgroup.x;
}

fn wo_has(flag: u32) -> bool {
    return (wo_work.flags & flag) != 0u;
}
