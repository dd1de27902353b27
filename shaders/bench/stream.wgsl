// The upper bound for the speed of a step over p, g, m and v: the kernel reads the same four arrays and writes the same three, one vec4 per
// thread, with almost no arithmetic and without tables.

@group(0) @binding(0) var<storage, read_write> p: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> g: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> v: array<vec4<f32>>;

@compute @workgroup_size(256)
fn stream(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let i = id.y * grid.x * 256u + id.x;
    if i < arrayLength(&g) {
        let a = p[i];
        let b = g[i];
        let c = m[i];
        let d = v[i];
        p[i] = a + b;
        m[i] = c + b;
        v[i] = d + b;
    }
}
