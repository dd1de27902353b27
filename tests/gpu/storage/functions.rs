//! The functions of `half.wgsl`, `stochastic_rounding.wgsl` and `blockwise.wgsl` by themselves, in a pipeline of the test's own: bit for
//! bit the results of the host, and for round to nearest the results of the `half` crate.

use half::{bf16, f16};
use wgpu::util::DeviceExt as _;
use wgpu_optim::optim::AdamW;
use wgpu_optim::random::{Stream, draw, key, unit};
use wgpu_optim::storage::Format;
use wgpu_optim::storage::blockwise::{BLOCK, Map, encode};
use wgpu_optim::storage::half::{StochasticRounding, join, split, stochastic};
use wgpu_optim::{Class, Stage, read_buffer, wgpu};

use crate::common::{block_on, gpu};

const HALF: &str = include_str!("../../../shaders/harness/half.wgsl");
const RANDOM: &str = include_str!("../../../shaders/harness/random.wgsl");
const STOCHASTIC_ROUNDING: &str = include_str!("../../../shaders/harness/stochastic_rounding.wgsl");
const BLOCKWISE: &str = include_str!("../../../shaders/harness/blockwise.wgsl");

/// The values of an expression of `x` and `y`, four words each, and of their index `i`, over all words of two arrays.
fn each(parts: &[&str], expression: &str, x: &[u32], y: &[u32]) -> Vec<u32> {
    let entry = format!(
        "@group(0) @binding(0) var<storage, read> operands: array<array<vec4<u32>, 2>>;
         @group(0) @binding(1) var<storage, read_write> results: array<vec4<u32>>;
         @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
             let i = id.x;
             if i < arrayLength(&results) {{
                 let x = operands[i][0];
                 let y = operands[i][1];
                 results[i] = {expression};
             }}
         }}"
    );
    let word = |words: &[u32], at: usize| words.get(at).copied().unwrap_or(0);
    let lanes = |at: usize, words: &[u32]| (0..4).map(|lane| word(words, 4 * at + lane)).collect::<Vec<u32>>();
    let vec4s = x.len().div_ceil(4);
    let operands: Vec<u32> = (0..vec4s).flat_map(|at| [lanes(at, x), lanes(at, y)].concat()).collect();
    let mut words = compute(&[parts, &[&entry]].concat().join("\n"), &operands, vec4s);
    words.truncate(x.len());
    words
}

/// Runs `main` of a text, one thread for each vec4 of the results, and returns the results.
fn compute(text: &str, operands: &[u32], results: usize) -> Vec<u32> {
    let gpu = gpu();
    let device = &gpu.device;
    let source = wgpu::ShaderSource::Wgsl(text.into());
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let usage = wgpu::BufferUsages::STORAGE;
    let contents = bytemuck::cast_slice(operands);
    let operands = device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage });
    let size = 16 * results as u64;
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size,
        usage: usage | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: operands.as_entire_binding() },
            wgpu::BindGroupEntry { binding: 1, resource: buffer.as_entire_binding() },
        ],
    });
    let record = |encoder: &mut wgpu::CommandEncoder| {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &bindings, &[]);
        pass.dispatch_workgroups(results.div_ceil(64) as u32, 1, 1);
        Ok(())
    };
    gpu.run(record).unwrap();
    let bytes = block_on(read_buffer(device, &gpu.queue, buffer.slice(..))).unwrap();
    bytemuck::pod_collect_to_vec(&bytes)
}

/// Fails at the first word that is not the wanted one.
#[track_caller]
fn equal(what: &str, x: &[u32], got: &[u32], want: impl Fn(usize, u32) -> u32) {
    assert_eq!(x.len(), got.len());
    for (at, (x, got)) in x.iter().zip(got).enumerate() {
        let want = want(at, *x);
        assert_eq!(*got, want, "{what} of {x:#010x}: {got:#010x}, not {want:#010x}");
    }
}

const HALVES: [(Format, &str); 2] = [(Format::F16, "f16"), (Format::Bf16, "bf16")];

/// The result of the `half` crate for a word.
fn crates(format: Format, word: u32) -> u32 {
    let x = f32::from_bits(word);
    u32::from(if format == Format::F16 { f16::from_f32(x).to_bits() } else { bf16::from_f32(x).to_bits() })
}

fn widened(format: Format, bits: u16) -> f32 {
    if format == Format::F16 { f16::from_bits(bits).to_f32() } else { bf16::from_bits(bits).to_f32() }
}

fn random(count: usize, stream: u32) -> Vec<u32> {
    let words = draw(key(5, Stream::Data), stream);
    (0..count as u32).map(|i| draw(words, i)).collect()
}

/// The edges of every binade, the halves, the middles between them and the neighbours of all these, both signs; and random words: more
/// than 2^20.
fn words() -> Vec<u32> {
    let mut words = Vec::new();
    for exponent in 0..256 {
        let bits = (0..24).map(|bit| (1_u32 << bit) & 0x7f_ffff);
        let ties = [0xfff, 0x1fff, 0x3000, 0x5000, 0x7fff, 0x1_8000, 0x2_8000, 0x7f_7fff, 0x7f_8000, 0x7f_f000];
        let fractions = bits.chain(ties).flat_map(|fraction| [fraction, fraction.wrapping_sub(1), fraction + 1]);
        words.extend(fractions.map(|fraction| exponent << 23 | fraction & 0x7f_ffff));
    }
    for (format, _) in HALVES {
        let infinity = if format == Format::F16 { 0x7c00 } else { 0x7f80 };
        for bits in 0..infinity {
            let here = widened(format, bits);
            let step =
                if bits + 1 < infinity { widened(format, bits + 1) - here } else { here - widened(format, bits - 1) };
            let middle = here + 0.5 * step;
            words.extend([middle.next_down(), middle, middle.next_up(), here].map(f32::to_bits));
        }
    }
    words.extend([65504_f32, 65519.996, 65520.0, 65536.0, f32::MAX].map(f32::to_bits));
    let both = words.iter().flat_map(|word| [*word, word | 0x8000_0000]);
    both.chain(random(1 << 20, 1)).collect()
}

#[test]
fn every_half_widens_and_rounds_back() {
    let halves: Vec<u32> = (0..=0xffff).collect();
    for (format, name) in HALVES {
        let wide = each(&[HALF], &format!("bitcast<vec4<u32>>(wo_widen_{name}(x))"), &halves, &[]);
        let is_nan = |half: u32| widened(format, half as u16).is_nan();
        // The crate quiets NaNs on their way; bf16's are the upper half as it is.
        let quiet = |half: u32| if is_nan(half) { if format == Format::F16 { 0x0040_0000 } else { 0 } } else { 0 };
        let exact = |half: u32| if format == Format::F16 { widened(format, half as u16).to_bits() } else { half << 16 };
        equal(&format!("{name} widened"), &halves, &wide, |_, half| exact(half) | quiet(half));
        let back = each(&[HALF], &format!("wo_nearest_{name}(bitcast<vec4<f32>>(x))"), &wide, &[]);
        let quiet = if format == Format::F16 { 0x200 } else { 0x40 };
        equal(&format!("{name} there and back"), &halves, &back, |_, half| half | if is_nan(half) { quiet } else { 0 });
        for draw in [0, 0xffff] {
            let draws = vec![draw; halves.len()];
            let rounded = each(&[HALF], &format!("wo_stochastic_{name}(bitcast<vec4<f32>>(x), y)"), &wide, &draws);
            assert_eq!(rounded, back, "{name}: no draw moves a half");
        }
    }
}

#[test]
fn the_nearest_is_that_of_the_half_crate() {
    let words = words();
    assert!(words.len() > 1 << 20);
    for (format, name) in HALVES {
        let got = each(&[HALF], &format!("wo_nearest_{name}(bitcast<vec4<f32>>(x))"), &words, &[]);
        equal(&format!("the nearest {name}"), &words, &got, |_, word| crates(format, word));
    }
}

#[test]
fn stochastic_rounding_is_that_of_the_host() {
    let words = words();
    // The least bits, the largest and the middle ones beside random ones.
    let some = [0, 0xffff, 0x7fff, 0x8000, 1, 7, 8];
    let draws = random(words.len(), 2);
    let draw = |(at, draw): (usize, u32)| if at % 3 == 0 { some[at / 3 % some.len()] } else { draw & 0xffff };
    let draws: Vec<u32> = draws.into_iter().enumerate().map(draw).collect();
    for (format, name) in HALVES {
        let got = each(&[HALF], &format!("wo_stochastic_{name}(bitcast<vec4<f32>>(x), y)"), &words, &draws);
        let want = |at: usize, word| u32::from(stochastic(format, f32::from_bits(word), draws[at] as u16));
        equal(&format!("{name} stochastic"), &words, &got, want);
    }
}

#[test]
fn random_bits_are_those_of_the_host() {
    let places: Vec<u32> = (0..1 << 16).map(|at| at / 4 * 257).collect();
    for (rounding, rounded, tensor, array) in [(0, 0, 0, 0), (77, 3, 5, 2), (u32::MAX, u32::MAX, 1 << 20, 1)] {
        let control = format!(
            "struct Control {{ rounding: u32, rounded: u32 }}\nconst wo_control = Control({rounding}u, {rounded}u);"
        );
        let parts = [HALF, RANDOM, STOCHASTIC_ROUNDING, &control];
        let got = each(&parts, &format!("wo_random_bits({tensor}u, {array}u, x.x)"), &places, &[]);
        let draws = StochasticRounding::new(rounding, rounded, tensor, array);
        equal("random bits", &places, &got, |at, place| u32::from(draws.of(4 * place + at as u32 % 4)));
    }
}

#[test]
fn a_split_number_is_joined_again() {
    let words = words();
    let got = each(
        &[HALF],
        "wo_high(bitcast<vec4<f32>>(x)) | (wo_remainder(bitcast<vec4<f32>>(x)) << vec4(16u))",
        &words,
        &[],
    );
    let pair = |word| {
        let (high, low) = split(f32::from_bits(word));
        u32::from(high) | u32::from(low) << 16
    };
    equal("the halves", &words, &got, |_, word| pair(word));
    let whole = "bitcast<vec4<u32>>(wo_join(x & vec4(0xffffu), x >> vec4(16u)))";
    let joined = each(&[HALF], whole, &got, &[]);
    let is_nan = |word: u32| f32::from_bits(word).is_nan();
    equal(
        "split and joined",
        &words,
        &joined,
        |_, word| if is_nan(word) { word & 0x8000_0000 | 0x7fc0_0000 } else { word },
    );
    // Any half beside any remainder.
    let any = each(&[HALF], whole, &words, &[]);
    equal("joined", &words, &any, |_, word| join(word as u16, (word >> 16) as u16).to_bits());
    for (word, joined) in words.iter().zip(any) {
        assert_eq!(is_nan(joined), is_nan(word << 16), "a remainder beside {:#06x} makes no NaN", word & 0xffff);
    }
}

/// Blocks of many sizes and their largest magnitudes, one per number.
fn blocks(map: Map) -> (Vec<f32>, Vec<f32>) {
    let words = key(9, Stream::Data);
    let (mut numbers, mut largest) = (Vec::new(), Vec::new());
    for block in 0..512_u32 {
        let scale = 10f32.powi(block as i32 % 70 - 35);
        let number = |i: u32| {
            let at = block * BLOCK as u32 + i;
            let spread = if block % 3 == 0 { unit(words, 2 * at) } else { 10f32.powf(-9.0 * unit(words, 2 * at)) };
            let zero = draw(words, 2 * at + 1) % 50 == 7;
            let negative = map == Map::Signed && draw(words, 2 * at + 1) & 1024 != 0;
            if zero { 0.0 } else { scale * spread * if negative { -1.0 } else { 1.0 } }
        };
        let of_block: Vec<f32> = (0..BLOCK as u32).map(number).collect();
        let most = of_block.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        numbers.extend(&of_block);
        largest.extend([most; BLOCK]);
    }
    (numbers, largest)
}

/// The constants that the host writes for the maps.
fn constants() -> String {
    let rule = AdamW::default();
    let variant = Class::of(&rule, false, false).stored(&rule, &"8bit,min=0".parse().unwrap(), 4096).unwrap();
    let text = variant.text(Stage::Update);
    let of_map = |line: &&str| line.starts_with("const wo_SIGNED_") || line.starts_with("const wo_POSITIVE_");
    let constants: Vec<&str> = text.lines().filter(of_map).collect();
    assert_eq!(constants.len(), 6, "two lists of lines and an edge per map");
    constants.join("\n")
}

const MAPS: [(Map, &str); 2] = [(Map::Signed, "signed"), (Map::Unsigned, "positive")];

#[test]
fn codes_are_those_of_the_host_except_near_edges() {
    let constants = constants();
    for (map, name) in MAPS {
        let (numbers, largest) = blocks(map);
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        let word = format!("wo_codes(wo_{name}_word(bitcast<vec4<f32>>(x), bitcast<f32>(y.x)))");
        let got = each(&[BLOCKWISE, &constants], &word, &bits(&numbers), &bits(&largest));
        let mut other = 0;
        for (block, (numbers, got)) in numbers.chunks(BLOCK).zip(got.chunks(BLOCK)).enumerate() {
            let mut codes = [0; BLOCK];
            let most = encode(map, numbers, &mut codes);
            assert_eq!(most.to_bits(), largest[block * BLOCK].to_bits());
            for ((x, code), got) in numbers.iter().zip(codes).zip(got) {
                // A GPU may flush a subnormal number to zero. The number then has the allowed code that is nearest to the code of zero.
                let flushed = if map == Map::Signed { 127 } else { 1 };
                if u32::from(code) == *got || x.is_subnormal() && *got == flushed {
                    continue;
                }
                other += 1;
                let share = f64::from(*x) / f64::from(most);
                let value = |code: u32| f64::from(map.value(code as u8));
                let edge = f64::midpoint(value(u32::from(code)), value(*got));
                assert_eq!(u32::from(code).abs_diff(*got), 1, "{name} {x:e} of {most:e}: {got}, not {code}");
                assert!((share - edge).abs() <= 2e-6 * edge.abs(), "{name} {x:e} of {most:e}: {got}, not {code}");
            }
        }
        assert!(other * 1000 < numbers.len(), "{name}: {other} of {} codes differ", numbers.len());
    }
}

/// Numbers that one thread of the exhaustive test walks through, in steps of one unit in the last place.
const RUN: u32 = 1024;

/// A thread walks through the run from `operands[0] + RUN * id` and finds how many numbers have another code than the host's, and how far
/// the edge is of the farthest of them, in units of the last place. The host's codes change at the edges in `operands`.
fn walk(name: &str) -> String {
    format!(
        "@group(0) @binding(0) var<storage, read> operands: array<u32>;
         @group(0) @binding(1) var<storage, read_write> results: array<vec4<u32>>;
         fn code_of(bits: vec4<u32>) -> vec4<u32> {{ return wo_codes(wo_{name}_word(bitcast<vec4<f32>>(bits), 1.0)); }}
         @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
             let begin = operands[0] + {RUN}u * id.x;
             var host = 0u;
             while operands[host + 2u] <= begin {{ host++; }}
             var next = operands[host + 2u];
             var found = vec4(0u);
             for (var i = 0u; i < {RUN}u; i += 4u) {{
                 let bits = vec4(begin + i) + vec4(0u, 1u, 2u, 3u);
                 let codes = code_of(bits);
                 for (var k = 0u; k < 4u; k++) {{
                     while bits[k] >= next {{ host++; next = operands[host + 2u]; }}
                     let code = codes[k] - operands[1];
                     if code != host {{
                         let off = select(next - bits[k], bits[k] - operands[host + 1u] + 1u, code < host);
                         found = vec4(found.x + 1u, max(found.y, select(off, 0xffffffffu, max(code, host) - min(code, host) != 1u)), 0u, 0u);
                     }}
                 }}
             }}
             results[id.x] = found;
         }}"
    )
}

/// The bits of the numbers at which the host's codes change.
fn edges(map: Map) -> Vec<u32> {
    let one = 1_f32.to_bits();
    let zero = map.nearest(0.0);
    let first_of = |code: u8| {
        let (mut below, mut at) = (0, one);
        while at - below > 1 {
            let middle = below + (at - below) / 2;
            if map.nearest(f32::from_bits(middle)) < code { below = middle } else { at = middle }
        }
        at
    };
    (zero + 1..=255).map(first_of).collect()
}

#[test]
fn every_share_has_the_code_of_the_host_or_is_next_to_an_edge() {
    let constants = constants();
    for (map, name) in MAPS {
        let edges = edges(map);
        assert!(edges.is_sorted());
        // Below its first edge, a map without a sign keeps numbers apart from 0.
        let first = if map == Map::Signed { 2f32.powi(-24).to_bits() } else { edges[0] };
        let last = 1_f32.to_bits();
        let operands = [&[first, u32::from(map.nearest(0.0))], &edges[..], &[u32::MAX]].concat();
        let found =
            compute(&[BLOCKWISE, &constants, &walk(name)].join("\n"), &operands, ((last - first) / RUN) as usize);
        let other: u32 = found.chunks(4).map(|found| found[0]).sum();
        let farthest = found.chunks(4).map(|found| found[1]).max().unwrap();
        println!(
            "{name}: {other} of {} codes differ from the host's, at most {farthest} ulp from an edge",
            last - first
        );
        assert!(farthest <= 16, "{name}: {farthest} ulp");
    }
}

#[test]
fn codes_stand_for_the_numbers_of_the_map() {
    let codes: Vec<u32> = (0..256).collect();
    let constants = constants();
    for (map, name) in MAPS {
        for largest in [1.0_f32, 3.7e-20, 2.5e30, 0.0] {
            let number = format!("bitcast<vec4<u32>>(wo_{name}(wo_word(vec4<f32>(x), 0.0), bitcast<f32>(y.x)))");
            let got = each(&[BLOCKWISE, &constants], &number, &codes, &[largest.to_bits(); 256]);
            for (code, got) in (0..=255).zip(got) {
                let (want, got) = (map.value(code) * largest, f32::from_bits(got));
                let off = (f64::from(got) - f64::from(want)).abs();
                assert!(off <= 1e-6 * f64::from(want.abs()), "{name} {code} of {largest:e}: {got:e}, not {want:e}");
            }
        }
        // A largest magnitude that is not finite makes its whole block not finite. With an infinite one, the code of 0 gives a NaN.
        let number = format!("bitcast<vec4<u32>>(wo_{name}(wo_word(vec4<f32>(x), 0.0), bitcast<f32>(y.x)))");
        for largest in [f32::INFINITY, f32::NAN] {
            let got = each(&[BLOCKWISE, &constants], &number, &codes, &[largest.to_bits(); 256]);
            assert!(got.into_iter().all(|x| !f32::from_bits(x).is_finite()), "{name} of {largest}");
        }
    }
}
