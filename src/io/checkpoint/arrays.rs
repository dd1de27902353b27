//! Arrays in the file of a checkpoint, as the optimizer stores them. The documentation of the module lists the keys.

use std::collections::BTreeMap;

use safetensors::Dtype;
use serde_json::{Value as Json, json};

use super::metadata::{Rule, Tensor};
use crate::gpu::access::snapshot::Arrays;
use crate::gpu::layout::arena::PARAM;
use crate::gpu::layout::units::{MASTER, REMAINDER, keeps_precision};
use crate::io::tensor_file::{Entry, TensorFile, little_endian, quote};
use crate::io::tensor_writer::FileArray;
use crate::optim::procedure::factors;
use crate::options::storage::blockwise::{BLOCK, Map, check_encoded};
use crate::options::storage::{Format, Packed};
use crate::{Error, Result};

/// The suffix of an array's name for the largest magnitudes of its blocks. No state has a dot in its name, because the state is a member of a
/// WGSL struct.
const LARGEST: &str = ".largest";
/// The maps of a tensor's arrays in eight bits, in the metadata.
const MAPS: &str = "maps";
/// The numbers that are kept once per tensor, by their bits, in the metadata.
const PROGRESS: &str = "progress_bits";

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
        let shape =
            factors::shape_of(array, &tensor.shape).filter(|shape| shape.iter().product::<usize>() == values.len());
        let numbers = FileArray::new(key(array), dtype, shape.as_deref().unwrap_or(&tensor.shape), bytes);
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
    if !tensor.progress.is_empty() {
        let numbers: BTreeMap<&str, u32> =
            tensor.progress.iter().map(|(name, x)| (name.as_str(), x.to_bits())).collect();
        about[PROGRESS] = json!(numbers);
    }
    about
}

fn named_map((array, values): &(String, Packed)) -> Option<(&str, &str)> {
    if let Packed::Blocks { map, .. } = values { Some((array, map.name())) } else { None }
}

/// An array of a tensor in the file.
#[derive(Clone, Copy)]
struct Array<'a> {
    tensor: &'a str,
    name: &'a str,
    entry: &'a Entry,
}

/// The arrays of a file, by the names of their tensors and their own.
pub(super) struct Entries<'a> {
    file: &'a TensorFile,
    arrays: Vec<Array<'a>>,
}

impl<'a> Entries<'a> {
    /// The arrays of the tensors that the metadata of the rules name.
    pub(super) fn new(file: &'a TensorFile, rules: &[Rule]) -> Result<Self> {
        let mut arrays = Vec::with_capacity(file.entries().len());
        for entry in file.entries() {
            let Some((name, tensor)) = entry.key.split_once('/') else {
                return Err(file.error(format!("key {} names no tensor", quote(&entry.key))));
            };
            arrays.push(Array { tensor, name, entry });
        }
        arrays.sort_unstable_by_key(|array| (array.tensor, array.name));
        let named = rules.iter().flat_map(|rule| &rule.tensors.0);
        let mut names: Vec<&str> = named.map(|tensor| tensor.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(file.error(format!("its metadata name tensor {} twice", quote(pair[0]))));
        }
        if let Some(array) = arrays.iter().find(|array| names.binary_search(&array.tensor).is_err()) {
            let name = quote(array.tensor);
            return Err(file.error(format!("tensor {name} is not among the tensors that the metadata name")));
        }
        Ok(Self { file, arrays })
    }

    /// The named tensors with their arrays.
    pub(super) fn read(&self, named: &[Tensor]) -> Result<Vec<Arrays>> {
        let read = |tensor: &Tensor| {
            let name = tensor.name.as_str();
            let begin = self.arrays.partition_point(|array| array.tensor < name);
            let end = self.arrays.partition_point(|array| array.tensor <= name);
            let arrays = &self.arrays[begin..end];
            let reader = TensorReader { file: self.file, name, maps: &tensor.maps.0, arrays };
            Ok(Arrays { progress: reader.numbers(&tensor.progress.0)?, ..reader.read(&tensor.group)? })
        };
        named.iter().map(read).collect()
    }
}

/// The arrays of one tensor.
struct TensorReader<'a> {
    file: &'a TensorFile,
    name: &'a str,
    maps: &'a [(String, String)],
    /// By name.
    arrays: &'a [Array<'a>],
}

impl TensorReader<'_> {
    fn read(&self, group: &str) -> Result<Arrays> {
        let param = self.entry(PARAM).ok_or_else(|| self.error(format!("lacks {}", self.quote(PARAM))))?;
        let shape = param.shape.clone();
        let mut arrays = Vec::new();
        for Array { name: array, entry, .. } in self.arrays {
            if let Some(owner) = array.strip_suffix(LARGEST) {
                self.check_owner(owner, &entry.key)?;
                continue;
            }
            let is_factor = factors::shape_of(array, &shape).is_some_and(|shape| shape == entry.shape);
            if entry.shape != shape && !is_factor {
                let problem = format!("{} has shape {:?}, the tensor {shape:?}", quote(&entry.key), entry.shape);
                return Err(self.error(problem));
            }
            arrays.push(((*array).to_owned(), self.packed(array, entry)?));
        }
        self.check_maps()?;
        let tensor =
            Arrays { name: self.name.to_owned(), group: group.to_owned(), shape, arrays, progress: Vec::new() };
        self.check_precision(&tensor)?;
        Ok(tensor)
    }

    /// The numbers that are kept once per tensor.
    fn numbers(&self, bits: &[(String, u32)]) -> Result<Vec<(String, f32)>> {
        let number = |(name, bits): &(String, u32)| {
            Some((name.clone(), f32::from_bits(*bits))).filter(|(_, x)| x.is_finite() && *x >= 0.0)
        };
        let numbers = bits.iter().map(number).collect::<Option<_>>();
        numbers.ok_or_else(|| {
            let tensor = quote(self.name);
            self.error(format!("`{PROGRESS}` of tensor {tensor} has a number that is not finite or is below 0"))
        })
    }

    fn entry(&self, array: &str) -> Option<&Entry> {
        let at = self.arrays.binary_search_by_key(&array, |array| array.name).ok()?;
        Some(self.arrays[at].entry)
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
        let numbers = self.file.at::<f32>(&largest.data).into_owned();
        for (i, (codes, number)) in codes.chunks(BLOCK).zip(&numbers).enumerate() {
            check_encoded(map, *number, codes)
                .map_err(|problem| self.error(format!("block {i} of {}: {problem}", quote(&largest.key))))?;
        }
        Ok(Packed::Blocks { map, codes, largest: numbers })
    }

    fn map(&self, array: &str) -> Result<Map> {
        let named = self.maps.iter().find(|(name, _)| name == array).map(|(_, map)| map.as_str());
        let map = [Map::Signed, Map::Unsigned].into_iter().find(|map| named == Some(map.name()));
        map.ok_or_else(|| {
            let (key, named) = (self.quote(array), named.map_or("none".to_owned(), quote));
            self.error(format!("its metadata need the map of {key}, `signed` or `unsigned`, have {named}"))
        })
    }

    /// Checks that every map is of an array.
    fn check_maps(&self) -> Result<()> {
        let is_coded = |array: &str| self.entry(array).is_some_and(|entry| entry.dtype == Dtype::U8);
        match self.maps.iter().find(|(array, _)| !is_coded(array)) {
            None => Ok(()),
            Some((array, _)) => {
                Err(self.error(format!("its metadata have a map of {}, which is not there in U8", self.quote(array))))
            }
        }
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
