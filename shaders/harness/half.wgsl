// Half precision in plain u32 arithmetic: two numbers per word, the first in the low bits. Each element of a vec4 holds the bits of one number.
// src/options/storage/half.rs does the same on the host.

fn wo_unpack(words: vec2<u32>) -> vec4<u32> {
    return vec4(words.x & 0xffffu, words.x >> 16u, words.y & 0xffffu, words.y >> 16u);
}

fn wo_pack(halves: vec4<u32>) -> vec2<u32> {
    return vec2(halves.x | (halves.y << 16u), halves.z | (halves.w << 16u));
}

// Takes the chosen elements from `after` and the others from `before`.
fn wo_mixed(before: vec2<u32>, after: vec2<u32>, chosen: vec4<bool>) -> vec2<u32> {
    return wo_pack(select(wo_unpack(before), wo_unpack(after), chosen));
}

fn wo_is_nan(bits: vec4<u32>) -> vec4<bool> {
    return (bits & vec4(0x7fffffffu)) > vec4(0x7f800000u);
}

fn wo_widen_bf16(halves: vec4<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(halves << vec4(16u));
}

// Round to nearest, ties to even. A NaN becomes a quiet NaN, because its truncated bits could be those of infinity.
fn wo_nearest_bf16(x: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(x);
    let high = bits >> vec4(16u);
    let nearest = (bits + vec4(0x7fffu) + (high & vec4(1u))) >> vec4(16u);
    return select(nearest, high | vec4(0x40u), wo_is_nan(bits));
}

// Stochastic rounding: a number is rounded up if the sum of the 16 random bits and the truncated bits carries.
fn wo_stochastic_bf16(x: vec4<f32>, random: vec4<u32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(x);
    return select((bits + random) >> vec4(16u), (bits >> vec4(16u)) | vec4(0x40u), wo_is_nan(bits));
}

fn wo_widen_f16(halves: vec4<u32>) -> vec4<f32> {
    let sign = (halves & vec4(0x8000u)) << vec4(16u);
    let magnitude = halves & vec4(0x7fffu);
    let wide = magnitude << vec4(13u);
    var bits = wide + vec4(112u << 23u);
    bits = select(bits, bitcast<vec4<u32>>(vec4<f32>(magnitude) * 5.9604645e-8), magnitude < vec4(0x400u));
    bits = select(bits, wide | vec4(0x7f800000u), magnitude >= vec4(0x7c00u));
    bits = select(bits, wide | vec4(0x7fc00000u), magnitude > vec4(0x7c00u));
    return bitcast<vec4<f32>>(sign | bits);
}

// Joins the sign and the rounded magnitude. Only one of `normal` and `subnormal` applies, and only that one has to be right.
fn wo_f16(bits: vec4<u32>, normal: vec4<u32>, subnormal: vec4<u32>) -> vec4<u32> {
    let magnitude = bits & vec4(0x7fffffffu);
    let finite = min(select(normal, subnormal, magnitude < vec4(0x38800000u)), vec4(0x7c00u));
    let nan = vec4(0x7e00u) | ((magnitude >> vec4(13u)) & vec4(0x3ffu));
    return ((bits >> vec4(16u)) & vec4(0x8000u)) | select(finite, nan, wo_is_nan(bits));
}

// The count of bits of the significand that a subnormal number, in units of 2^-24, truncates.
fn wo_places(magnitude: vec4<u32>) -> vec4<u32> {
    return min(vec4(126u) - min(magnitude >> vec4(23u), vec4(113u)), vec4(31u));
}

fn wo_significand(magnitude: vec4<u32>) -> vec4<u32> {
    return (magnitude & vec4(0x7fffffu)) | vec4(0x800000u);
}

fn wo_nearest_f16(x: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(x);
    let magnitude = bits & vec4(0x7fffffffu);
    let normal = ((magnitude + vec4(0xfffu) + ((magnitude >> vec4(13u)) & vec4(1u))) >> vec4(13u)) - vec4(112u << 10u);
    let places = wo_places(magnitude);
    let significand = wo_significand(magnitude);
    let kept = significand >> places;
    let middle = vec4(1u) << (places - vec4(1u));
    let rest = significand & (2u * middle - vec4(1u));
    let up = (rest > middle) | ((rest == middle) & ((kept & vec4(1u)) != vec4(0u)));
    return wo_f16(bits, normal, kept + select(vec4(0u), vec4(1u), up));
}

fn wo_stochastic_f16(x: vec4<f32>, random: vec4<u32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(x);
    let magnitude = bits & vec4(0x7fffffffu);
    let normal = ((magnitude + (random >> vec4(3u))) >> vec4(13u)) - vec4(112u << 10u);
    // In units of 2^-40: the smallest number has 2^16 units, one per value of the random bits. A magnitude below one unit never rounds up.
    let shift = min(vec4(112u) - min(magnitude >> vec4(23u), vec4(112u)), vec4(31u));
    let subnormal = (((wo_significand(magnitude) << vec4(2u)) >> shift) + random) >> vec4(16u);
    return wo_f16(bits, normal, subnormal);
}

// Joins the nearest bf16 and the 16 bits below it. A split never leaves a remainder of the upper half beside zero, or of the lower half
// beside infinity. Such a remainder is stale, because the caller wrote the parameter, and it would make a NaN: it counts as 0.
fn wo_join(high: vec4<u32>, remainder: vec4<u32>) -> vec4<f32> {
    let magnitude = high & vec4(0x7fffu);
    let upper = remainder >= vec4(0x8000u);
    let stale = (upper & (magnitude == vec4(0u))) | (!upper & (magnitude == vec4(0x7f80u)));
    let low = select(remainder, vec4(0u), stale);
    return bitcast<vec4<f32>>(((high - (low >> vec4(15u))) << vec4(16u)) | low);
}

fn wo_remainder(x: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(x);
    return select(bits & vec4(0xffffu), vec4(0u), wo_is_nan(bits));
}

// Round to nearest, ties away from zero, because the upper half of the remainders begins with the tie.
fn wo_high(x: vec4<f32>) -> vec4<u32> {
    let bits = bitcast<vec4<u32>>(x);
    let high = bits >> vec4(16u);
    let up = (bits >> vec4(15u)) & vec4(1u);
    return select(high + up, (high & vec4(0x8000u)) | vec4(0x7fc0u), wo_is_nan(bits));
}
