//! The shapes of a model's tensors, from which memory is counted before the model exists.

use std::path::Path;
use std::str::FromStr;

use safetensors::Dtype;

use crate::gpu::layout::memory::MemoryUsage;
use crate::io::tensor_file;
use crate::{Error, Group, Optimizer, Result, Rule, Storage};

/// The largest number of tensors.
const MOST_TENSORS: usize = 100_000;
/// The largest number of parameters: the plan has one record per thousand parameters.
const MOST_PARAMETERS: u64 = 1 << 34;

/// The shapes of a model's tensors, with at most 100,000 tensors and 2³⁴ parameters. The text form separates shapes by commas, and the
/// numbers of a shape by `x`: `784x128,128`. `12*768x768` stands for twelve tensors of this shape. The units k, M and G stand for thousand,
/// million and thousand million: `1.5M`.
///
/// ```
/// use wgpu_optim::memory::Role;
/// use wgpu_optim::tools::model::Shapes;
/// use wgpu_optim::{AdamW, wgpu};
/// let shapes: Shapes = "12*768x768,12*768".parse()?;
/// assert_eq!((shapes.tensors().count(), shapes.parameters()), (24, 7_087_104));
/// let memory = shapes.memory_usage(&AdamW::default(), &"bf16-split".parse()?, &wgpu::Limits::default())?;
/// assert_eq!(memory.of(Role::Remainder), 2 * 7_087_104);
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    tensors: Vec<(String, Vec<usize>)>,
    parameters: u64,
    left_out: usize,
}

impl Shapes {
    const fn new() -> Self {
        Self { tensors: Vec::new(), parameters: 0, left_out: 0 }
    }

    /// Reads the shapes from the header of a safetensors file. Tensors of integers or booleans are not parameters and do not count.
    ///
    /// # Errors
    /// The file cannot be read, is not a safetensors file (such as the index of several files), or has too many tensors or parameters.
    pub fn read(path: &Path) -> Result<Self> {
        if path.to_str().is_some_and(|path| path.ends_with(".index.json")) {
            let problem = "is the index of a model in several files: give one of its shards, such as `model-00001-of-00002.safetensors`";
            return Err(Error::File { file: path.display().to_string(), problem: problem.to_owned() });
        }
        let mut shapes = Self::new();
        for entry in tensor_file::entries(path)? {
            if is_number(entry.dtype) {
                shapes.add(entry.key, entry.shape)?;
            } else {
                shapes.left_out += 1;
            }
        }
        Ok(shapes)
    }

    /// The tensors, with their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()))
    }

    /// The number of parameters.
    #[must_use]
    pub const fn parameters(&self) -> u64 {
        self.parameters
    }

    /// The number of tensors in the file that hold no parameters.
    #[must_use]
    pub const fn left_out(&self) -> usize {
        self.left_out
    }

    /// The memory of an optimizer of these tensors on a device with these limits, with parameters and gradients in the optimizer's own
    /// buffers.
    ///
    /// # Errors
    /// The rule refuses the storage; a limit is too low.
    pub fn memory_usage(&self, rule: &dyn Rule, storage: &Storage, limits: &wgpu::Limits) -> Result<MemoryUsage> {
        let mut builder = Optimizer::builder(rule.boxed());
        builder.storage(storage.clone());
        for (name, shape) in &self.tensors {
            builder.tensor(Group::DEFAULT, name.clone(), shape);
        }
        builder.memory_usage(limits)
    }

    fn add(&mut self, name: String, shape: Vec<usize>) -> Result<()> {
        let refuse = |problem: String| Err(Error::Usage(format!("model: {problem}")));
        if self.tensors.len() == MOST_TENSORS {
            return refuse(format!("it has more than {MOST_TENSORS} tensors"));
        }
        let elements = shape.iter().try_fold(1_u64, |n, d| n.checked_mul(*d as u64));
        match elements.and_then(|elements| self.parameters.checked_add(elements)) {
            Some(parameters) if parameters <= MOST_PARAMETERS => self.parameters = parameters,
            _ => return refuse(format!("it has more than {MOST_PARAMETERS} parameters")),
        }
        self.tensors.push((name, shape));
        Ok(())
    }
}

impl FromStr for Shapes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut shapes = Self::new();
        for part in text.split(',').map(str::trim) {
            let wrong = || {
                let part = tensor_file::quote(part);
                Error::Usage(format!("model: {part} is not a shape, needs 768x768, 12*768x768 (twelve of them) or 16M"))
            };
            let (times, shape) = part.split_once('*').unwrap_or(("1", part));
            let times = number(times.trim()).ok_or_else(wrong)?;
            let dims: Option<Vec<usize>> = shape.split('x').map(|dim| number(dim.trim())).collect();
            let dims = dims.ok_or_else(wrong)?;
            for _ in 0..times {
                shapes.add(format!("{} of {}", shapes.tensors.len(), shape.trim()), dims.clone())?;
            }
        }
        Ok(shapes)
    }
}

/// Parses a whole number. It may end in k, M or G, and may then have a decimal point.
fn number(text: &str) -> Option<usize> {
    let zeros = [('k', 3), ('M', 6), ('G', 9)].into_iter().find(|(suffix, _)| text.ends_with(*suffix));
    let (digits, zeros) = zeros.map_or((text, 0), |(_, zeros)| (&text[..text.len() - 1], zeros));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || part.len() > zeros || (digits.contains('.') && !is_number(part)) {
        return None;
    }
    format!("{whole}{part:0<zeros$}").parse().ok()
}

/// Whether tensors of this type hold parameters.
const fn is_number(dtype: Dtype) -> bool {
    use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
    !matches!(dtype, BOOL | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::{TensorView, serialize_to_file};

    #[test]
    fn shapes_are_read() {
        let shapes: Shapes = "2*768x3, 16M,1.5k,0x4".parse().expect("valid shapes");
        let found: Vec<&[usize]> = shapes.tensors().map(|(_, shape)| shape).collect();
        assert_eq!(found, [&[768, 3][..], &[768, 3], &[16_000_000], &[1500], &[0, 4]]);
        assert_eq!(shapes.parameters(), 2 * 768 * 3 + 16_000_000 + 1500);
        for text in
            ["", "768x", "x768", "768,,3", "*3", "a*3", "3*", "-1", "1.5", "1.k", ".5k", "1.2345k", "1e6", "16m", "7²"]
        {
            let error = text.parse::<Shapes>().expect_err(text).to_string();
            assert!(error.contains("is not a shape"), "{text}: {error}");
        }
        for (text, part) in [
            ("100001*1", "more than 100000 tensors"),
            ("17G,1G", "more than 17179869184 parameters"),
            ("99G*99G", "parameters"),
            ("9999999999x9999999999", "parameters"),
        ] {
            let error = text.parse::<Shapes>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_header_of_a_file_gives_the_shapes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let view = |dtype, shape: &[usize], bytes| {
            TensorView::new(dtype, shape.to_vec(), bytes).expect("a shape that fits the bytes")
        };
        let tensors = [
            ("w", view(Dtype::BF16, &[2, 3], &[0; 12])),
            ("steps", view(Dtype::I64, &[], &[0; 8])),
            ("b", view(Dtype::F32, &[3], &[0; 12])),
        ];
        serialize_to_file(tensors, None, &path).expect("it is written");
        let shapes = Shapes::read(&path).expect("it is read");
        let found: Vec<(&str, &[usize])> = shapes.tensors().collect();
        assert_eq!(found, [("b", &[3][..]), ("w", &[2, 3])]);
        assert_eq!((shapes.parameters(), shapes.left_out()), (9, 1));
        let bytes = std::fs::read(&path).expect("it is there");
        for length in [0, 5, 8, 40, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).expect("it is written");
            let error = Shapes::read(&path).expect_err("it is cut").to_string();
            assert!(error.contains("model.safetensors: "), "{error}");
        }
        assert!(matches!(Shapes::read(&folder.path().join("none")), Err(Error::Io { .. })));
    }
}
