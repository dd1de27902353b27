//! A reader of safetensors files that checks every number before it uses it.
//!
//! `SafeTensors::deserialize` keeps the last of two equal keys, names no key where a size is wrong, and needs many times the memory of a
//! hostile header, so this file has a parser of its own.

use std::{borrow::Cow, fmt, marker::PhantomData, ops::Range};
use std::{fs::File, io::Read as _, path::Path};

use bytemuck::Pod;
use safetensors::Dtype;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::{Error, Result};

/// Bytes of the number with the header's length.
pub(crate) const PREFIX: usize = 8;
/// The longest header that safetensors' own readers take.
pub(crate) const MAX_HEADER: usize = 100_000_000;
/// The key of the text entries.
pub(crate) const METADATA: &str = "__metadata__";
const MAX_RANK: usize = 64;
const MAX_TEXTS: usize = 1000;
const MAX_SHOWN: usize = 200;

/// A whole file in memory, and the range of each tensor.
#[derive(Debug)]
pub(crate) struct TensorFile {
    name: String,
    bytes: Vec<u8>,
    metadata: Vec<(String, String)>,
    /// Sorted by key.
    entries: Vec<Entry>,
}

/// One tensor of the file; `data` lies inside the file and has exactly the bytes of `dtype` and `shape`.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Range<usize>,
}

impl TensorFile {
    pub(crate) fn parse(name: &str, bytes: Vec<u8>) -> Result<Self> {
        let Header { metadata, entries } = read(&bytes).map_err(|problem| error(name, &problem))?;
        Ok(Self { name: name.to_owned(), bytes, metadata: metadata.unwrap_or_default(), entries })
    }

    /// Reads the file at `path`, as far as its header says and one byte further: a device has no end.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let io = |source| Error::Io { path: name.clone(), source };
        let mut file = File::open(path).map_err(io)?;
        let found = file.metadata().map_err(io)?;
        let length = if found.is_file() { usize::try_from(found.len()).unwrap_or(usize::MAX) } else { usize::MAX };
        let mut bytes = Vec::new();
        file.by_ref().take(PREFIX as u64).read_to_end(&mut bytes).map_err(io)?;
        let header = header_length(&bytes, length).map_err(|problem| error(&name, &problem))?;
        file.by_ref().take(header as u64).read_to_end(&mut bytes).map_err(io)?;
        let header = bytes.get(PREFIX..PREFIX + header).ok_or_else(|| error(&name, "ends within its header"))?;
        let (mut header, end) = parse(header).map_err(|problem| error(&name, &problem))?;
        let rest = (end - bytes.len()) as u64;
        file.take(rest.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
        let available = if found.is_file() { length.max(bytes.len()) } else { bytes.len() };
        check_end(&header, end, available).map_err(|problem| error(&name, &problem))?;
        let (metadata, entries) = (header.metadata.take().unwrap_or_default(), header.entries);
        Ok(Self { name, bytes, metadata, entries })
    }

    /// An error that names this file.
    pub(crate) fn error(&self, problem: impl AsRef<str>) -> Error {
        error(&self.name, problem.as_ref())
    }

    #[cfg(feature = "tools")]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str> {
        let found = self.metadata.iter().find(|(k, _)| k == key);
        found.map(|(_, value)| value.as_str()).ok_or_else(|| self.error(format!("its metadata lacks `{key}`")))
    }

    /// All tensors, by key.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|e| e.key.as_str().cmp(key)).ok()?;
        self.entries.get(at)
    }

    /// The numbers of `key`, borrowed where they are aligned.
    #[cfg(feature = "tools")]
    pub(crate) fn numbers<T: Pod>(&self, key: &str) -> Option<Cow<'_, [T]>> {
        self.entry(key).map(|e| self.at(&e.data))
    }

    pub(crate) fn at<T: Pod>(&self, data: &Range<usize>) -> Cow<'_, [T]> {
        let bytes = &self.bytes[data.clone()];
        if cfg!(target_endian = "big") {
            return Cow::Owned(bytemuck::pod_collect_to_vec(&swapped::<T>(bytes)));
        }
        match bytemuck::try_cast_slice(bytes) {
            Ok(numbers) => Cow::Borrowed(numbers),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(bytes)),
        }
    }
}

/// Little-endian bytes of `numbers`.
pub(crate) fn little_endian<T: Pod>(numbers: &[T]) -> Cow<'_, [u8]> {
    let bytes = bytemuck::cast_slice(numbers);
    if cfg!(target_endian = "big") { Cow::Owned(swapped::<T>(bytes)) } else { Cow::Borrowed(bytes) }
}

fn swapped<T>(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
    bytes
}

/// `text` in backticks, fit for a terminal: escaped, and cut where it is long.
pub(crate) fn quote(text: &str) -> String {
    format!("`{}`", cut(text, MAX_SHOWN).escape_debug())
}

fn error(file: &str, problem: &str) -> Error {
    Error::File { file: file.to_owned(), problem: cut(problem, 5 * MAX_SHOWN).into_owned() }
}

fn cut(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// The tensors of a file, by key. Reads only the header.
#[cfg(feature = "tools")]
pub(crate) fn entries(path: &Path) -> Result<Vec<Entry>> {
    let name = path.display().to_string();
    let io = |source| Error::Io { path: name.clone(), source };
    let mut file = File::open(path).map_err(io)?;
    let length = usize::try_from(file.metadata().map_err(io)?.len()).unwrap_or(usize::MAX);
    let mut prefix = Vec::new();
    file.by_ref().take(PREFIX as u64).read_to_end(&mut prefix).map_err(io)?;
    let header = header_length(&prefix, length).map_err(|problem| error(&name, &problem))?;
    let mut text = vec![0; header];
    file.read_exact(&mut text).map_err(io)?;
    let (header, end) = parse(&text).map_err(|problem| error(&name, &problem))?;
    check_end(&header, end, length).map_err(|problem| error(&name, &problem))?;
    Ok(header.entries)
}

fn read(bytes: &[u8]) -> Result<Header, String> {
    let length = header_length(bytes, bytes.len())?;
    let (header, end) = parse(&bytes[PREFIX..PREFIX + length])?;
    check_end(&header, end, bytes.len())?;
    Ok(header)
}

/// Parses a header. Returns it with the end of the file that it describes.
fn parse(text: &[u8]) -> Result<(Header, usize), String> {
    let start = PREFIX + text.len();
    let mut header: Header = serde_json::from_slice(text).map_err(|e| format!("its header: {e}"))?;
    let end = place(&mut header.entries, start)?;
    header.entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    match header.entries.windows(2).find(|pair| pair[0].key == pair[1].key) {
        Some(pair) => Err(format!("{} appears twice", quote(&pair[0].key))),
        None => Ok((header, end)),
    }
}

/// The length of the header, from the first bytes of a file of this many bytes.
fn header_length(first: &[u8], file: usize) -> Result<usize, String> {
    let Some(prefix) = first.first_chunk::<PREFIX>() else {
        return Err(format!("is {} bytes long, needs {PREFIX} for its header's length alone", first.len()));
    };
    let stated = u64::from_le_bytes(*prefix);
    let most = file.saturating_sub(PREFIX).min(MAX_HEADER);
    match usize::try_from(stated) {
        Ok(length) if length <= most => Ok(length),
        _ => Err(format!(
            "its first {PREFIX} bytes give a header of {stated} bytes, at most {most} can follow: truncated, or no safetensors file"
        )),
    }
}

/// Checks that the entries lie one after the other. Shifts their ranges by `start`, the first byte of data in the file. Returns the end of
/// the last entry.
fn place(entries: &mut [Entry], start: usize) -> Result<usize, String> {
    entries.sort_unstable_by_key(|e| (e.data.start, e.data.end));
    let mut filled = 0;
    for Entry { key, dtype, shape, data } in entries {
        let key = || quote(key);
        let stated = data.end.checked_sub(data.start);
        let needed = size(*dtype, shape).ok_or_else(|| format!("{}: {dtype:?} {shape:?} has no size", key()))?;
        if stated != Some(needed) {
            return Err(format!("{}: {dtype:?} {shape:?} needs {needed} bytes, its offsets are {data:?}", key()));
        }
        if data.start != filled {
            return Err(format!("{}: begins at byte {} of the data, needs {filled}", key(), data.start));
        }
        let Some(end) = start.checked_add(data.end) else {
            return Err(format!("{}: ends at byte {} of the data, which no file can reach", key(), data.end));
        };
        filled = data.end;
        *data = start + data.start..end;
    }
    Ok(start + filled)
}

/// Checks that a file of `file` bytes ends where its header says.
fn check_end(header: &Header, end: usize, file: usize) -> Result<(), String> {
    if end == file {
        return Ok(());
    }
    let start = header.entries.iter().map(|entry| entry.data.start).min().unwrap_or(end);
    let (available, filled) = (file - start, end - start);
    let mut beyond: Vec<&Entry> = header.entries.iter().filter(|entry| entry.data.end > file).collect();
    beyond.sort_unstable_by_key(|entry| (entry.data.start, entry.data.end));
    match beyond.first() {
        Some(entry) => {
            let (key, end) = (quote(&entry.key), entry.data.end - start);
            Err(format!("{key}: ends at byte {end} of the data, the file ends at {available}"))
        }
        None => Err(format!("holds {available} bytes of data, its header accounts for {filled}")),
    }
}

fn size(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let elements = shape.iter().try_fold(1_usize, |product, n| product.checked_mul(*n))?;
    let bits = elements.checked_mul(dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

#[derive(Default)]
struct Header {
    metadata: Option<Vec<(String, String)>>,
    entries: Vec<Entry>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header::default();
        while let Some(key) = map.next_key::<String>()? {
            if key == METADATA {
                if header.metadata.replace(value::<_, Pairs<_>>(&mut map, &key)?.0).is_some() {
                    return Err(de::Error::custom(format!("`{METADATA}` appears twice")));
                }
            } else {
                let Info { dtype, shape: Shape(shape), data_offsets: (start, end) } = value(&mut map, &key)?;
                header.entries.push(Entry { key, dtype, shape, data: start..end });
            }
        }
        Ok(header)
    }
}

/// The value of `key`; an error names the key.
pub(crate) fn value<'de, A: MapAccess<'de>, V: Deserialize<'de>>(map: &mut A, key: &str) -> Result<V, A::Error> {
    map.next_value().map_err(|e| de::Error::custom(format!("{}: {e}", quote(key))))
}

#[derive(serde::Deserialize)]
struct Info {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (usize, usize),
}

struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX_RANK} sizes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sizes: A) -> Result<Shape, A::Error> {
        let mut shape = Vec::new();
        while let Some(size) = sizes.next_element()? {
            if shape.len() == MAX_RANK {
                return Err(de::Error::invalid_length(MAX_RANK + 1, &self));
            }
            shape.push(size);
        }
        Ok(Shape(shape))
    }
}

/// The members of an object, in order. Refuses a name that comes twice, and more members than a valid file has.
#[derive(Debug)]
pub(crate) struct Pairs<V>(pub(crate) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

struct PairsVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<V> {
    type Value = Pairs<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object of at most {MAX_TEXTS} members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<V>, A::Error> {
        let mut pairs: Vec<(String, V)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(de::Error::custom(format!("{} appears twice", quote(&key))));
            }
            if pairs.len() == MAX_TEXTS {
                return Err(de::Error::invalid_length(MAX_TEXTS + 1, &self));
            }
            let value = value(&mut map, &key)?;
            pairs.push((key, value));
        }
        pairs.shrink_to_fit();
        Ok(Pairs(pairs))
    }
}
