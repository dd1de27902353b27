//! The records of a procedure's passes: the work of each pass, and its weights.

use crate::Result;
use crate::gpu::build::buffers::{Buffers, Sizes, UNIFORM, Which};
use crate::optim::Procedure;
use crate::optim::procedure::Scheme;
use crate::optim::procedure::integrator::{RK4, Weights};

/// Keeps a copy of the parameters.
pub(crate) const START: u32 = 1;
/// Stores the derivative at the parameters.
pub(crate) const STORE: u32 = 2;
/// Moves the parameters.
pub(crate) const MOVE: u32 = 4;
/// Adds to the displacement of the whole step.
pub(crate) const ADVANCE: u32 = 8;
/// Makes the last derivative the next step's first.
pub(crate) const SHIFT: u32 = 16;
/// Puts the parameters back.
pub(crate) const RESTORE: u32 = 32;
/// The weights are fractions of each tensor's horizon.
const HORIZONS: u32 = 64;

/// The flags' names in WGSL.
pub(crate) const FLAGS: [(&str, u32); 7] = [
    ("START", START),
    ("STORE", STORE),
    ("MOVE", MOVE),
    ("ADVANCE", ADVANCE),
    ("SHIFT", SHIFT),
    ("RESTORE", RESTORE),
    ("HORIZONS", HORIZONS),
];

/// `wo_Pass` of `shaders/harness/tables.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct PassRecord {
    pub(crate) flags: u32,
    pub(crate) number: u32,
    pub(crate) next: f32,
    pub(crate) tolerance: f32,
    pub(crate) poison: f32,
    pub(crate) seed: u32,
    pub(crate) pad: [u32; 2],
    pub(crate) weights: [f32; 8],
}

/// Bytes of a record.
pub(crate) const PASS_BYTES: u64 = size_of::<PassRecord>() as u64;
/// Dynamic offsets are multiples of this on every device.
const STRIDE: usize = 256;

impl PassRecord {
    pub(crate) fn new(flags: u32, number: usize) -> Self {
        Self { flags, number: number as u32, ..Self::default() }
    }

    pub(crate) fn weighing(self, weights: Weights) -> Self {
        let mut row = [0.0; 8];
        row.iter_mut().zip(weights).for_each(|(to, w)| *to = w as f32);
        Self { weights: row, ..self }
    }
}

/// The dynamic offset of a pass's record.
pub(crate) const fn offset(pass: usize) -> u32 {
    (pass * STRIDE) as u32
}

/// The records of a procedure's passes in order, each at its dynamic offset; `seed` is the key of probes' directions. Dormand and Prince's
/// integrator has one record. The host writes it before each pass, because the pass depends on numbers that the host read back.
pub(crate) fn records(procedure: Procedure, seed: u32) -> Vec<u8> {
    let records = match procedure {
        Procedure::Plain | Procedure::Warp(_) => Vec::new(),
        Procedure::Probe(probe) => {
            let flags = |j| if j == 0 { START | MOVE } else { MOVE };
            let probes = (0..probe.count).map(|j| PassRecord { seed, ..PassRecord::new(flags(j), j) });
            probes.chain([PassRecord::new(RESTORE, 0)]).collect()
        }
        Procedure::Integrate(Scheme::Rk4) => {
            let flags = [START | MOVE, MOVE, MOVE, ADVANCE | RESTORE].map(|flags| flags | STORE | HORIZONS);
            let stage = |(i, weights): (usize, Weights)| PassRecord::new(flags[i], i).weighing(weights);
            RK4.into_iter().enumerate().map(stage).collect()
        }
        Procedure::Integrate(Scheme::Dopri5 { .. }) => vec![PassRecord::default()],
    };
    let mut bytes = vec![0; records.len() * STRIDE];
    for (record, place) in records.iter().zip(bytes.chunks_exact_mut(STRIDE)) {
        place[..PASS_BYTES as usize].copy_from_slice(bytemuck::bytes_of(record));
    }
    bytes
}

/// Plans the buffer of these records, if there are any.
pub(crate) fn plan(records: &[u8], sizes: &mut Sizes) {
    if !records.is_empty() {
        sizes.add(Which::Passes, records.len() as u64);
    }
}

/// Creates the buffer.
pub(crate) fn create(records: &[u8], buffers: &Buffers<'_>) -> Result<Option<wgpu::Buffer>> {
    (!records.is_empty()).then(|| buffers.create_with(Which::Passes, UNIFORM, records)).transpose()
}
