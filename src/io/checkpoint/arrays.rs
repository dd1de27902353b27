//! Arrays in the file of a checkpoint, as the optimizer stores them. The documentation of the module lists the keys.

use std::collections::{BTreeMap, HashSet};

use safetensors::Dtype;
use serde_json::{Value as Json, json};

use super::fields::{list, text};
use crate::gpu::access::snapshot::Arrays;
use crate::gpu::layout::arena::PARAM;
use crate::gpu::layout::units::{MASTER, REMAINDER, keeps_precision};
use crate::io::tensor_file::{Entry, TensorFile, little_endian, quote};
use crate::io::tensor_writer::FileArray;
use crate::options::storage::blockwise::{BLOCK, Map};
use crate::options::storage::{Format, Packed};
use crate::{Error, Result};

/// The suffix of an array's name for the largest magnitudes of its blocks. No state has a dot in its name, because the state is a member of a
/// WGSL struct.
const LARGEST: &str = ".largest";
/// The maps of a tensor's arrays in eight bits, in the metadata.
const MAPS: &str = "maps";

/// The arrays of a tensor, for the file.
pub(crate) fn write(tensor: &Arrays) -> impl Iterator<Item = FileArray<'_>> {
    tensor.arrays.iter().flat_map(move |(array, values)| {
        let key = |array: &str| format!("{array}/{}", tensor.name);
        let (dtype, bytes, largest) = match values {
            Packed::F32(values) => (Dtype::F32, little_endian(values), None),
            Packed::Half(format, bits) => (dtype(*format), little_endian(bits), None),
            Packed::Remainder(bits) => (Dtype::U16, little_endian(bits), None),
            Packed::Blocks { codes, largest, .. } => (Dtype::U8, little_endian(codes), Some(largest)),
        };
        let numbers = FileArray::new(key(array), dtype, &tensor.shape, bytes);
        let largest = largest.map(|largest| {
            FileArray::new(key(&format!("{array}{LARGEST}")), Dtype::F32, &[largest.len()], little_endian(largest))
        });
        std::iter::once(numbers).chain(largest)
    })
}

const fn dtype(format: Format) -> Dtype {
    match format {
        Format::F32 => Dtype::F32,
        Format::F16 => Dtype::F16,
        Format::Bf16 => Dtype::BF16,
    }
}

/// The metadata of a tensor.
pub(crate) fn about(tensor: &Arrays) -> Json {
    let mut about = json!({ "name": tensor.name, "group": tensor.group });
    // Sorted by name, because the reader reads the arrays of a file in this order.
    let maps: BTreeMap<&str, &str> = tensor.arrays.iter().filter_map(named_map).collect();
    if !maps.is_empty() {
        about[MAPS] = json!(maps);
    }
    about
}

fn named_map((array, values): &(String, Packed)) -> Option<(&str, &str)> {
    if let Packed::Blocks { map, .. } = values { Some((array, map.name())) } else { None }
}

/// Every tensor that the metadata name, with its arrays in the file.
pub(crate) fn read(file: &TensorFile, about: &Json) -> Result<Vec<Arrays>> {
    let mut of_tensor: BTreeMap<&str, BTreeMap<&str, &Entry>> = BTreeMap::new();
    for entry in file.entries() {
        let (array, tensor) = entry
            .key
            .split_once('/')
            .ok_or_else(|| file.error(format!("key {} names no tensor", quote(&entry.key))))?;
        of_tensor.entry(tensor).or_default().insert(array, entry);
    }
    let named = list(file, about, "tensors")?;
    let names = named.iter().map(|tensor| text(file, tensor, "name")).collect::<Result<HashSet<_>>>()?;
    if let Some(name) = of_tensor.keys().find(|name| !names.contains(*name)) {
        return Err(file.error(format!("tensor {} is not among the tensors that the metadata name", quote(name))));
    }
    let read = |tensor: &Json| {
        let (name, group) = (text(file, tensor, "name")?, text(file, tensor, "group")?);
        let entries = of_tensor.remove(name).unwrap_or_default();
        TensorReader { file, name, maps: &tensor[MAPS], entries }.read(group)
    };
    named.iter().map(read).collect()
}

/// The entries of one tensor.
struct TensorReader<'a> {
    file: &'a TensorFile,
    name: &'a str,
    maps: &'a Json,
    /// By the names of the arrays.
    entries: BTreeMap<&'a str, &'a Entry>,
}

impl TensorReader<'_> {
    fn read(&self, group: &str) -> Result<Arrays> {
        let param = self.entry(PARAM).ok_or_else(|| self.error(format!("lacks {}", self.quote(PARAM))))?;
        let shape = param.shape.clone();
        let mut arrays = Vec::new();
        for (array, entry) in &self.entries {
            if let Some(owner) = array.strip_suffix(LARGEST) {
                self.check_owner(owner, &entry.key)?;
                continue;
            }
            if entry.shape != shape {
                let problem = format!("{} has shape {:?}, the tensor {shape:?}", quote(&entry.key), entry.shape);
                return Err(self.error(problem));
            }
            arrays.push(((*array).to_owned(), self.packed(array, entry)?));
        }
        let tensor = Arrays { name: self.name.to_owned(), group: group.to_owned(), shape, arrays };
        self.check_precision(&tensor)?;
        Ok(tensor)
    }

    fn entry(&self, array: &str) -> Option<&Entry> {
        self.entries.get(array).copied()
    }

    fn quote(&self, array: &str) -> String {
        quote(&format!("{array}/{}", self.name))
    }

    fn error(&self, problem: impl AsRef<str>) -> Error {
        self.file.error(problem)
    }

    fn packed(&self, array: &str, entry: &Entry) -> Result<Packed> {
        let known: &[Dtype] = match array {
            PARAM => &[Dtype::F32, Dtype::F16, Dtype::BF16],
            MASTER => &[Dtype::F32],
            REMAINDER => &[Dtype::U16],
            _ => &[Dtype::F32, Dtype::BF16, Dtype::U8],
        };
        if !known.contains(&entry.dtype) {
            let known: Vec<String> = known.iter().map(|dtype| format!("{dtype:?}")).collect();
            let problem = format!("{} is {:?}, needs {}", quote(&entry.key), entry.dtype, known.join(" or "));
            return Err(self.error(problem));
        }
        let halves = || self.file.at::<u16>(&entry.data).into_owned();
        Ok(match entry.dtype {
            Dtype::F16 => Packed::Half(Format::F16, halves()),
            Dtype::BF16 => Packed::Half(Format::Bf16, halves()),
            Dtype::U16 => Packed::Remainder(halves()),
            Dtype::U8 => self.blocks(array, entry)?,
            _ => Packed::F32(self.file.at::<f32>(&entry.data).into_owned()),
        })
    }

    fn blocks(&self, array: &str, codes: &Entry) -> Result<Packed> {
        let map = self.map(array)?;
        let key = format!("{array}{LARGEST}");
        let largest = self.entry(&key).ok_or_else(|| self.error(format!("lacks {}", self.quote(&key))))?;
        let codes = self.file.at::<u8>(&codes.data).into_owned();
        let blocks = codes.len().div_ceil(BLOCK);
        if largest.dtype != Dtype::F32 || largest.shape != [blocks] {
            let (dtype, shape) = (largest.dtype, &largest.shape);
            let problem = format!("{} is {dtype:?} {shape:?}, needs F32 [{blocks}]", quote(&largest.key));
            return Err(self.error(format!("{problem}: one number per block of {BLOCK}")));
        }
        Ok(Packed::Blocks { map, codes, largest: self.file.at::<f32>(&largest.data).into_owned() })
    }

    fn map(&self, array: &str) -> Result<Map> {
        let named = &self.maps[array];
        let map = [Map::Signed, Map::Unsigned].into_iter().find(|map| named.as_str() == Some(map.name()));
        map.ok_or_else(|| {
            let key = self.quote(array);
            self.error(format!("its metadata need the map of {key}, `signed` or `unsigned`, have {named}"))
        })
    }

    fn check_owner(&self, owner: &str, key: &str) -> Result<()> {
        if self.entry(owner).is_some_and(|entry| entry.dtype == Dtype::U8) {
            return Ok(());
        }
        Err(self.error(format!("{} belongs to codes, but {} is missing or is not U8", quote(key), self.quote(owner))))
    }

    /// Checks that a master or remainder stands beside parameters in half precision.
    fn check_precision(&self, tensor: &Arrays) -> Result<()> {
        let mut keeping = tensor.arrays.iter().filter(|(name, _)| keeps_precision(name));
        let Some((name, rest)) = keeping.next() else { return Ok(()) };
        if let Some((other, _)) = keeping.next() {
            return Err(self.error(format!("has {} and {}, needs one", self.quote(name), self.quote(other))));
        }
        match (tensor.get(PARAM), rest) {
            (Some(Packed::Half(Format::Bf16, _)), _) | (Some(Packed::Half(..)), Packed::F32(_)) => Ok(()),
            (param, _) => {
                let param = param.map_or_else(String::new, |param| param.layout().to_string());
                Err(self.error(format!("{} stands beside parameters in {param}", self.quote(name))))
            }
        }
    }
}
