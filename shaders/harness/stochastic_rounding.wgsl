// 16 random bits for each of the four elements of a tensor's vec4 number `index`; two elements share a random word. The bits do not depend
// on the split of the work into dispatches and workgroups.
fn wo_random_bits(tensor: u32, array: u32, index: u32) -> vec4<u32> {
    let key = wo_draw(wo_draw(wo_draw(wo_control.rounding, wo_control.rounded), tensor), array);
    return wo_unpack(vec2(wo_draw(key, 2u * index), wo_draw(key, 2u * index + 1u)));
}
