//! Eight bits: codes and numbers against a quantiser that searches a list, and against the published maps.

use wgpu_optim::random::{Stream, draw, key, normal, unit};
use wgpu_optim::storage::blockwise::{BLOCK, Map, decode, encode, largest};

const MAPS: [Map; 2] = [Map::Signed, Map::Unsigned];

/// The relative distance from the middle between two numbers of a map within which either number is accepted.
const NEAR: f64 = 1e-6;

/// The numbers of a map by its definition: 0, 1, and in each of seven decades the middles of equal cells of [0.1, 1]. Each decade has twice
/// as many cells as the decade below.
fn numbers(map: Map) -> Vec<f64> {
    let mut all = vec![0.0, 1.0];
    for decade in 0..7 {
        let cells = if map == Map::Signed { 1 << decade } else { 2 << decade };
        for cell in 0..cells {
            let middle = 0.1 + 0.9 * (f64::from(cell) + 0.5) / f64::from(cells);
            let number = middle * 10f64.powi(decade - 6);
            all.push(number);
            if map == Map::Signed {
                all.push(-number);
            }
        }
    }
    all.sort_by(f64::total_cmp);
    assert_eq!(all.len(), 256);
    all
}

/// Whether a code is that of the number nearest to `y`, within the accepted distance.
fn is_nearest(numbers: &[f64], y: f64, code: u8) -> bool {
    let distance = |at: usize| (numbers[at] - y).abs();
    let nearest = (0..256).min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap();
    let code = usize::from(code);
    let middle = f64::midpoint(numbers[nearest], numbers[code]);
    code == nearest || code.abs_diff(nearest) == 1 && (y - middle).abs() <= NEAR * middle.abs()
}

#[test]
fn every_code_has_its_number() {
    for map in MAPS {
        for (code, number) in (0..=255).zip(numbers(map)) {
            let value = f64::from(map.value(code));
            assert!((value - number).abs() <= 3e-7 * number.abs(), "{map:?} {code}: {value} against {number}");
            assert_eq!(map.nearest(map.value(code)), code, "{map:?}: {value} is a number of the map");
        }
        assert_eq!(map.value(255), 1.0);
    }
}

#[test]
fn codes_change_halfway_between_numbers() {
    for map in MAPS {
        let numbers = numbers(map);
        for (code, pair) in (0..=255).zip(numbers.windows(2)) {
            let middle = f64::midpoint(pair[0], pair[1]);
            let reach = 1.01 * NEAR * middle.abs();
            assert_eq!(map.nearest((middle - reach) as f32), code, "{map:?} below {middle}");
            assert_eq!(map.nearest((middle + reach) as f32), code + 1, "{map:?} above {middle}");
        }
    }
}

#[test]
fn the_nearest_number_is_taken_of_all() {
    let words = key(1, Stream::Data);
    for map in MAPS {
        let numbers = numbers(map);
        for at in 0..1 << 15 {
            let even = unit(words, 3 * at);
            let y = if at % 2 == 0 { even } else { 10f32.powf(-9.0 * even) };
            let y = if map == Map::Signed && draw(words, 3 * at + 1) < 1 << 31 { -y } else { y };
            let code = map.nearest(y);
            assert!(is_nearest(&numbers, f64::from(y), code), "{map:?} {y:e}: {code}");
        }
        assert_eq!(map.nearest(0.0), map.nearest(-0.0));
    }
}

/// A block of numbers; some lie many decades below the largest.
fn block(map: Map, seed: u64, length: usize, scale: f64) -> Vec<f32> {
    let words = key(seed, Stream::Data);
    let number = |at: u32| {
        let x =
            normal(words, at) * if at.is_multiple_of(3) { 10f64.powf(-8.0 * f64::from(unit(words, !at))) } else { 1.0 };
        (if map == Map::Unsigned { x * x } else { x } * scale) as f32
    };
    (0..length as u32).map(number).collect()
}

#[test]
fn blocks_of_all_scales_are_stored_as_by_the_search() {
    for map in MAPS {
        let numbers = numbers(map);
        for (seed, decade) in (-30..=30).step_by(2).enumerate() {
            let length = if seed % 3 == 0 { 1 + 17 * seed % BLOCK } else { BLOCK };
            let block = block(map, seed as u64, length, 10f64.powi(decade));
            let (mut codes, mut back) = (vec![0; length], vec![0.0; length]);
            let most = encode(map, &block, &mut codes);
            assert_eq!(most, block.iter().fold(0.0, |most: f32, x| most.max(x.abs())), "1e{decade}");
            decode(map, most, &codes, &mut back);
            for ((x, code), back) in block.iter().zip(&codes).zip(&back) {
                let y = f64::from(*x) / f64::from(most);
                let raised = map == Map::Unsigned && *code == 1 && y < numbers[1];
                assert!(is_nearest(&numbers, y, *code) || raised, "{map:?} 1e{decade}: {y:e} got {code}");
                let wanted = numbers[usize::from(*code)] * f64::from(most);
                assert!((f64::from(*back) - wanted).abs() <= 4e-7 * wanted.abs(), "{map:?} 1e{decade}: {back:e}");
            }
        }
    }
}

#[test]
fn without_a_sign_only_zero_becomes_zero() {
    let tiny = f32::from_bits(1);
    for most in [1e30, 1.0, 1e-30, f32::MIN_POSITIVE, 1e-40, tiny] {
        let block = [most, 1e-9 * most, 1e-20 * most, tiny, 0.0];
        let (mut codes, mut back) = ([0; 5], [0.0; 5]);
        assert_eq!(encode(Map::Unsigned, &block, &mut codes), most);
        decode(Map::Unsigned, most, &codes, &mut back);
        for (x, back) in block.iter().zip(back) {
            assert_eq!(*x == 0.0, back == 0.0, "{x:e} beside {most:e} became {back:e}");
        }
    }
    let (mut codes, mut back) = ([7; 3], [1.0; 3]);
    for map in MAPS {
        assert_eq!(encode(map, &[0.0, -0.0, 0.0], &mut codes), 0.0);
        decode(map, 0.0, &codes, &mut back);
        assert_eq!(back, [0.0; 3], "{map:?}");
    }
}

#[test]
fn the_sign_counts_in_one_map_and_the_size_in_both() {
    let block = [0.5, -2.0, 0.25];
    assert_eq!((largest(&block), largest(&[])), (2.0, 0.0));
    let (mut codes, mut back) = ([0; 3], [0.0; 3]);
    let most = encode(Map::Signed, &block, &mut codes);
    decode(Map::Signed, most, &codes, &mut back);
    assert_eq!((most, codes[1]), (2.0, 0), "the lowest number of the map is not -1");
    assert!(back[1] < -1.98 && (back[0] - 0.5).abs() < 0.01 && (back[2] - 0.25).abs() < 0.01, "{back:?}");
}

#[test]
fn numbers_that_are_not_finite_are_not_lost() {
    for map in MAPS {
        for bad in [f32::NAN, f32::INFINITY] {
            let (mut codes, mut back) = ([0; 3], [0.0; 3]);
            let most = encode(map, &[1.0, bad, 0.0], &mut codes);
            decode(map, most, &codes, &mut back);
            assert!(back.iter().all(|x| !x.is_finite()), "{map:?} {bad}: {back:?}");
        }
    }
}

/// `tests/data/dynamic_maps.safetensors` holds the output of bitsandbytes (95f9af30): `create_dynamic_map(signed)`, and the codes that its
/// default `quantize_blockwise` gives 4 blocks of 256 with either map.
#[test]
fn codes_are_those_of_the_published_implementation() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/dynamic_maps.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (map, name) in [(Map::Signed, "signed"), (Map::Unsigned, "unsigned")] {
        let bytes = |what: &str| file.tensor(&format!("{name}.{what}")).unwrap().data().to_vec();
        let floats = |what: &str| -> Vec<f32> { bytes(what).chunks(4).map(bytemuck::pod_read_unaligned).collect() };
        let published: Vec<f64> = floats("map").into_iter().map(f64::from).collect();
        for (code, number) in (0..=255).zip(&published) {
            assert!((f64::from(map.value(code)) - number).abs() <= 1e-6 * number.abs(), "{name} {code}");
        }
        let (values, theirs, absmax) = (floats("values"), bytes("codes"), floats("absmax"));
        assert_eq!(values.len(), 4 * BLOCK);
        let mut equal = 0;
        for ((block, theirs), absmax) in values.chunks(BLOCK).zip(theirs.chunks(BLOCK)).zip(absmax) {
            let mut codes = [0; BLOCK];
            assert_eq!(encode(map, block, &mut codes), absmax);
            for ((x, code), theirs) in block.iter().zip(codes).zip(theirs) {
                let y = f64::from(*x) / f64::from(absmax);
                let raised = map == Map::Unsigned && (code, *theirs) == (1, 0) && *x > 0.0;
                assert!(code == *theirs || raised || is_nearest(&published, y, code), "{name} {y:e}: {code}, {theirs}");
                equal += usize::from(code == *theirs || raised);
            }
        }
        assert!(equal >= 4 * BLOCK - 2, "{name}: {equal} codes are equal");
    }
}
