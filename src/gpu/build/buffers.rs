//! The crate's buffers: their names, their sizes, and their creation. A plan lists all buffers with their sizes before a device exists;
//! construction creates only buffers of the plan.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use crate::gpu::build::scope::{Answer, Patience, Scope};
use crate::gpu::layout::units::VEC4;
use crate::{Error, Result};

pub(crate) const TABLE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST);
pub(crate) const OWNED: wgpu::BufferUsages = TABLE.union(wgpu::BufferUsages::COPY_SRC);
pub(crate) const UNIFORM: wgpu::BufferUsages = wgpu::BufferUsages::UNIFORM.union(wgpu::BufferUsages::COPY_DST);

/// A buffer of the crate. The number tells the buffers of one kind apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Which {
    Parameters(usize),
    Gradients(usize),
    /// One per shard.
    Arena(usize),
    /// One per shard.
    Chunks(usize),
    /// One per shard.
    Spans(usize),
    /// One per shard with matrices that keep factors.
    Tiles(usize),
    TileSums,
    FactorTable,
    /// One per round.
    Partials(usize),
    /// One per round.
    Totals(usize),
    /// One per round.
    Segments(usize),
    /// One per round.
    Tensors(usize),
    Control,
    Scalars,
    Calls,
    Confirmation,
    Losses,
    Passes,
    /// Two per page of matrices: each iteration reads one and writes the other.
    MatrixPage(usize),
    /// Two per page: A and B.
    MatrixGram(usize),
    MatrixNorms,
    MatrixTable(usize),
    MatrixWorks,
    Runs,
    Masks,
    Indices,
    Scratch,
    Tasks,
    Telemetry(usize),
    StandIn,
    /// The masks of row sets with tensors in several parts.
    JointMasks,
    /// The totals of the first rounds of all parts.
    JointTotals,
    Exchange,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, number) = match *self {
            Self::Parameters(n) => ("parameters", Some(n)),
            Self::Gradients(n) => ("gradients", Some(n)),
            Self::Arena(n) => ("state arena", Some(n)),
            Self::Chunks(n) => ("table of chunks", Some(n)),
            Self::Spans(n) => ("table of spans", Some(n)),
            Self::Tiles(n) => ("table of tiles", Some(n)),
            Self::TileSums => ("sums of tiles", None),
            Self::FactorTable => ("table of factors", None),
            Self::Partials(n) => ("partial sums", Some(n)),
            Self::Totals(n) => ("totals of sums", Some(n)),
            Self::Segments(n) => ("table of segments", Some(n)),
            Self::Tensors(n) => ("table of tensors", Some(n)),
            Self::Control => ("control", None),
            Self::Scalars => ("ring of scalars", None),
            Self::Calls => ("ring of calls", None),
            Self::Confirmation => ("copy of the count of steps", None),
            Self::Losses => ("losses of probes", None),
            Self::Passes => ("table of passes", None),
            Self::MatrixPage(n) => ("matrices of products", Some(n)),
            Self::MatrixGram(n) => ("squares of matrices", Some(n)),
            Self::MatrixNorms => ("norms of matrices", None),
            Self::MatrixTable(n) => ("table of matrices", Some(n)),
            Self::MatrixWorks => ("table of products", None),
            Self::Runs => ("table of runs", None),
            Self::Masks => ("masks of rows", None),
            Self::Indices => ("indices of rows", None),
            Self::Scratch => ("scratch of rows", None),
            Self::Tasks => ("table of row tasks", None),
            Self::Telemetry(n) => ("telemetry", Some(n)),
            Self::StandIn => ("gradients of a step without tensors", None),
            Self::JointMasks => ("masks of rows of several rules", None),
            Self::JointTotals => ("totals of several rules", None),
            Self::Exchange => ("table of norms of several rules", None),
        };
        f.write_str(what)?;
        number.map_or(Ok(()), |number| write!(f, " {number}"))
    }
}

/// The bytes of every planned buffer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sizes(BTreeMap<Which, u64>);

impl Sizes {
    /// Plans a buffer of at least this many bytes, and at least a vec4.
    pub(crate) fn add(&mut self, which: Which, bytes: u64) {
        self.0.insert(which, bytes.next_multiple_of(VEC4).max(VEC4));
    }

    /// Bytes of a buffer; 0 if the plan does not have this buffer.
    pub(crate) fn of(&self, which: Which) -> u64 {
        self.0.get(&which).copied().unwrap_or(0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Which, u64)> {
        self.0.iter().map(|(which, bytes)| (*which, *bytes))
    }
}

/// The created buffers that a [`Source::Crate`] names.
pub(crate) type Created = BTreeMap<Which, wgpu::Buffer>;

/// Creates the buffers of a plan.
pub(crate) struct Buffers<'a> {
    pub(crate) device: &'a wgpu::Device,
    pub(crate) queue: &'a wgpu::Queue,
    pub(crate) label: &'a str,
    pub(crate) sizes: &'a Sizes,
    /// The contents of the arenas, for errors.
    pub(crate) contents: &'a [String],
    pub(crate) made: &'a Made,
}

/// The buffers that a construction made so far, and the answers about their memory that are still to come.
pub(crate) struct Made {
    patience: Patience,
    buffers: RefCell<Vec<wgpu::Buffer>>,
    answers: RefCell<Vec<Request>>,
}

/// A request for memory, and its answer.
struct Request {
    what: String,
    bytes: u64,
    answer: Answer,
}

/// Every buffer of an optimizer that the crate created.
#[derive(Debug, Default)]
pub(crate) struct Owned(Vec<wgpu::Buffer>);

impl Owned {
    /// Gives the memory back. wgpu does so by itself where a buffer is dropped, but not in a browser.
    pub(crate) fn destroy(&self) {
        self.0.iter().for_each(wgpu::Buffer::destroy);
    }
}

impl Made {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, buffers: RefCell::default(), answers: RefCell::default() }
    }

    /// The buffers, once every answer has come.
    ///
    /// # Errors
    /// A buffer found no memory; the others gave theirs back.
    pub(crate) async fn all(self) -> Result<Owned> {
        let owned = Owned(self.buffers.into_inner());
        for request in self.answers.into_inner() {
            if request.answer.wait().await.is_some() {
                owned.destroy();
                return Err(Error::OutOfMemory { what: request.what, bytes: request.bytes });
            }
        }
        Ok(owned)
    }
}

impl Buffers<'_> {
    /// Creates a planned buffer. If the GPU has no memory for the buffer, the error names the buffer.
    pub(crate) fn create(&self, which: Which, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let what = match which {
            Which::Arena(shard) => format!("{which} ({})", self.contents[shard]),
            _ => which.to_string(),
        };
        let size = self.sizes.of(which);
        debug_assert!(size > 0, "{what} is not planned");
        self.extra(&what, size, usage)
    }

    /// Creates a buffer that no plan lists, because it lives only while an optimizer is built.
    pub(crate) fn extra(&self, what: &str, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let what = format!("{} {what}", self.label);
        let (buffer, answer) = request(self.device, &what, size, usage, self.made.patience);
        self.made.buffers.borrow_mut().push(buffer.clone());
        match answer {
            Answer::Known(None) => {}
            Answer::Known(Some(_)) => return Err(Error::OutOfMemory { what, bytes: size }),
            answer @ Answer::Later(_) => self.made.answers.borrow_mut().push(Request { what, bytes: size, answer }),
        }
        Ok(buffer)
    }

    /// Creates the buffers that hold tensors.
    pub(crate) fn create_pages(&self, params: wgpu::BufferUsages, grads: wgpu::BufferUsages) -> Result<Created> {
        let mut created = Created::new();
        for (which, _) in self.sizes.iter() {
            let usage = match which {
                Which::Parameters(_) => params,
                Which::Gradients(_) => grads,
                _ => continue,
            };
            created.insert(which, self.create(which, usage)?);
        }
        Ok(created)
    }

    /// As [`create`](Self::create), and writes these bytes at its start.
    pub(crate) fn create_with(&self, which: Which, usage: wgpu::BufferUsages, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let buffer = self.create(which, usage)?;
        self.queue.write_buffer(&buffer, 0, bytes);
        Ok(buffer)
    }
}

/// Creates a buffer outside of a construction. If the GPU has no memory for the buffer, the error names the buffer.
pub(crate) fn buffer(
    device: &wgpu::Device,
    label: &str,
    what: &str,
    size: u64,
    usage: wgpu::BufferUsages,
) -> Result<wgpu::Buffer> {
    let what = format!("{label} {what}");
    let (buffer, answer) = request(device, &what, size, usage, Patience::Now);
    match answer.now() {
        Some(_) => Err(Error::OutOfMemory { what, bytes: size }),
        None => Ok(buffer),
    }
}

/// Creates a buffer, and asks whether it found memory.
fn request(
    device: &wgpu::Device,
    label: &str,
    size: u64,
    usage: wgpu::BufferUsages,
    patience: Patience,
) -> (wgpu::Buffer, Answer) {
    let scope = Scope::open(device, wgpu::ErrorFilter::OutOfMemory, patience);
    let buffer =
        device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false });
    #[cfg(test)]
    created::note(label, size);
    (buffer, scope.close())
}

/// A buffer that may not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A buffer that the crate creates.
    Crate(Which),
    /// A buffer that the caller created.
    Caller(wgpu::Buffer),
}

impl Source {
    pub(crate) const fn of_caller(&self) -> Option<&wgpu::Buffer> {
        match self {
            Self::Crate(_) => None,
            Self::Caller(buffer) => Some(buffer),
        }
    }

    pub(crate) fn buffer<'a>(&'a self, created: &'a Created) -> &'a wgpu::Buffer {
        match self {
            Self::Crate(which) => &created[which],
            Self::Caller(buffer) => buffer,
        }
    }
}

/// The buffers that this thread created, for tests.
#[cfg(test)]
pub(crate) mod created {
    use std::cell::RefCell;

    thread_local! {
        static CREATED: RefCell<Vec<(String, u64)>> = const { RefCell::new(Vec::new()) };
    }

    pub(crate) fn note(label: &str, bytes: u64) {
        CREATED.with_borrow_mut(|created| created.push((label.to_owned(), bytes)));
    }

    /// The labels and bytes since the last call.
    pub(crate) fn take() -> Vec<(String, u64)> {
        CREATED.take()
    }
}
