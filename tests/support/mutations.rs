//! Seeded mutations of files: of their bytes, of JSON texts, and of the headers and metadata of safetensors files.

use serde_json::Value;

/// Bytes of the number with the length of a safetensors header.
const PREFIX: usize = 8;
/// About how many bytes a value that a mutation swells has.
const SWELL: usize = 40_000;

/// A generator of random numbers: splitmix64.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `end`; 0 where there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let begin = self.below(length + 1);
        begin..begin + self.below((length - begin).min(64) + 1)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// Changes one to three places: flips, cuts, removed, repeated and foreign pieces.
pub(crate) fn bytes(random: &mut Random, file: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..=random.below(3) {
        let range = random.range(bytes.len());
        match random.below(7) {
            0 | 1 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            2 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            3 => bytes.truncate(range.start),
            4 => drop(bytes.drain(range)),
            5 => {
                let piece = bytes[range.clone()].to_vec();
                drop(bytes.splice(range.start..range.start, piece));
            }
            _ => {
                let other = &others[random.below(others.len())];
                let piece = other[random.range(other.len())].to_vec();
                drop(bytes.splice(range, piece));
            }
        }
    }
    bytes
}

/// Removes, repeats or replaces a member of a JSON text.
pub(crate) fn json(random: &mut Random, text: &str) -> String {
    let colons = colons(text);
    if colons.is_empty() {
        return strange(random);
    }
    let (key, colon) = colons[random.below(colons.len())];
    let end = colon + 1 + value(&text[colon + 1..]);
    let (before, member, after) = (&text[..key], &text[key..end], &text[end..]);
    match random.below(4) {
        0 => format!("{before}{member},{member}{after}"),
        1 => {
            let cut = after.strip_prefix(',').unwrap_or(after);
            format!("{before}{cut}")
        }
        2 => {
            let (_, other) = random.pick(&colons);
            let other = &text[other + 1..other + 1 + value(&text[other + 1..])];
            format!("{}{other}{after}", &text[..=colon])
        }
        _ => format!("{}{}{after}", &text[..=colon], strange(random)),
    }
}

/// Changes the header of a safetensors file, or a JSON text in its metadata.
pub(crate) fn tensor_file(random: &mut Random, file: &[u8]) -> Vec<u8> {
    let length = u64::from_le_bytes(file[..PREFIX].try_into().expect("eight bytes")) as usize;
    let (header, data) = file[PREFIX..].split_at(length);
    let text = std::str::from_utf8(header).expect("a header is text");
    let mut tree: Value = serde_json::from_slice(header).expect("a header is JSON");
    let texts = tree.get_mut("__metadata__").and_then(Value::as_object_mut).filter(|_| random.below(3) > 0);
    let header = match texts {
        None => json(random, text),
        Some(texts) => {
            let keys: Vec<String> = texts.keys().cloned().collect();
            let key = random.pick(&keys);
            let inner = texts[&key].as_str().unwrap_or_default().to_owned();
            texts.insert(key, json(random, &inner).into());
            tree.to_string()
        }
    };
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// The places of the colons between names and values, each with the place of its name.
fn colons(text: &str) -> Vec<(usize, usize)> {
    let (mut found, mut begin, mut inside, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                inside = !inside;
                if inside {
                    begin = at;
                }
            }
            b':' if !inside => found.push((begin, at)),
            _ => {}
        }
    }
    found
}

/// The length of the value at the beginning of a text.
fn value(text: &str) -> usize {
    let (mut depth, mut inside, mut escaped) = (0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            b'{' | b'[' if !inside => depth += 1,
            b'}' | b']' | b',' if !inside && depth == 0 => return at,
            b'}' | b']' if !inside => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// A value that a file does not have: a number out of every range, another type, or much more than was expected.
fn strange(random: &mut Random) -> String {
    let many = |open: &str, item: &dyn Fn(usize) -> String, close: &str| {
        let mut text = open.to_owned();
        for i in 0.. {
            text += &item(i);
            if text.len() > SWELL {
                return text + close;
            }
            text += ",";
        }
        unreachable!("a text grows")
    };
    let plain = ["0", "-1", "1e308", "1e999", "-0.0", "18446744073709551616", "4294967296", "9007199254740993"];
    let types = ["null", "true", "[]", "{}", "\"\"", "\"x\"", "[0,0]", "{\"name\":\"\"}"];
    match random.below(16) {
        0..4 => random.pick(&plain).to_owned(),
        4..8 => random.pick(&types).to_owned(),
        8 => many("[", &|_| "0".to_owned(), "]"),
        9 => many("[", &|_| "[]".to_owned(), "]"),
        10 => many("[", &|_| "{}".to_owned(), "]"),
        11 => many("{", &|i| format!("\"{i}\":\"\""), "}"),
        12 => many("{", &|i| format!("\"{i}\":0"), "}"),
        13 => many("[", &|i| format!("{{\"name\":\"{i}\",\"group\":\"\"}}"), "]"),
        14 => many("[", &|i| format!("{{\"name\":\"{i}\",\"settings\":{{\"a\":0,\"b\":0}}}}"), "]"),
        _ => random.pick(&[
            "[".repeat(SWELL),
            "{\"a\":".repeat(SWELL / 5),
            format!("\"{}\"", "\\n".repeat(SWELL / 2)),
            format!("\"{}\"", "\\u0000".repeat(SWELL / 6)),
            "9".repeat(SWELL),
        ]),
    }
}
