//! The low-rank core on the GPU: one dispatch over the entries, two over the rows of the factors.

use super::entries::Entries;
use super::observed::Observed;
use crate::Result;
use crate::tools::objectives::check;
use crate::tools::objectives::staged::{Frame, Use, When, join};

const MODEL: &str = include_str!("../../../../shaders/objectives/low_rank.wgsl");
const PREDICT: &str = include_str!("../../../../shaders/objectives/low_rank_predict.wgsl");
const FIT: &str = include_str!("../../../../shaders/objectives/low_rank_fit.wgsl");
const SQUARED: &str = include_str!("../../../../shaders/objectives/squared.wgsl");
const HUBER: &str = include_str!("../../../../shaders/objectives/huber.wgsl");
const SEGMENTS: &str = include_str!("../../../../shaders/objectives/low_rank_segments.wgsl");
const ROWS: &str = include_str!("../../../../shaders/objectives/low_rank_rows.wgsl");

/// The largest number of entries per segment: few enough for a thread, and enough to keep the number of segments per row small.
const SEGMENT: u32 = 512;

fn predict_text() -> String {
    join(&[PREDICT, MODEL])
}

impl Observed {
    fn text(self) -> String {
        let own = match self {
            Self::Squared => SQUARED,
            Self::Huber => HUBER,
        };
        join(&[FIT, MODEL, own])
    }
}

pub(in crate::tools::objectives) fn shaders() -> Vec<(&'static str, String)> {
    vec![
        ("low-rank-predict", predict_text()),
        ("low-rank-squared", Observed::Squared.text()),
        ("low-rank-huber", Observed::Huber.text()),
        ("low-rank-segments", join(&[SEGMENTS])),
        ("low-rank-rows", join(&[ROWS])),
    ]
}

/// The buffers that the stages of the core share: the places of the entries, and their slopes.
pub(in crate::tools::objectives) struct Model<'a, const D: usize> {
    entries: &'a Entries<D>,
    places: wgpu::Buffer,
    /// The derivative of the loss by the model's value of each entry.
    pub(in crate::tools::objectives) slopes: wgpu::Buffer,
}

impl<'a, const D: usize> Model<'a, D> {
    pub(in crate::tools::objectives) fn new(frame: &Frame<'_>, entries: &'a Entries<D>) -> Result<Self> {
        check::loops("products of a model", entries.rank * D)?;
        let firsts: [usize; D] = std::array::from_fn(|d| entries.rows[..d].iter().sum::<usize>() * entries.rank);
        let place = |at: &[u32; D]| std::array::from_fn(|d| (firsts[d] + at[d] as usize * entries.rank) as u32);
        let places: Vec<[u32; D]> = entries.at.iter().map(place).collect();
        let places = frame.data("places", places.as_flattened())?;
        Ok(Self { entries, places, slopes: frame.make.words("entries' slopes", entries.len())? })
    }

    fn words(&self, scale: f32) -> [u32; 4] {
        [self.entries.len() as u32, self.entries.rank as u32, D as u32, scale.to_bits()]
    }

    /// Writes the model's value of each entry.
    pub(in crate::tools::objectives) fn predict(&self, frame: &mut Frame<'_>, models: &wgpu::Buffer) -> Result<()> {
        let point = frame.point.clone();
        let uses = [Use::Read(&point), Use::Read(&self.places), Use::Write(models)];
        let text = ("low-rank predict", predict_text());
        frame.stage(When::Always, (text.0, &text.1), &self.words(1.0), &uses, self.entries.len())
    }

    /// Writes the mean loss's terms and slopes.
    pub(super) fn fit(&self, frame: &mut Frame<'_>, observed: Observed, values: &[f32]) -> Result<()> {
        let (point, terms, values) = (frame.point.clone(), frame.terms.clone(), frame.data("values", values)?);
        let uses = [Use::Read(&point), Use::Read(&self.places), Use::Read(&values)];
        let uses: Vec<_> = uses.into_iter().chain([Use::Write(&self.slopes), Use::Write(&terms)]).collect();
        let count = self.entries.len();
        let words = self.words((1.0 / count as f64) as f32);
        frame.stage(When::Always, ("low-rank fit", &observed.text()), &words, &uses, count)
    }

    /// Turns the entries' slopes into the factors' gradients.
    pub(in crate::tools::objectives) fn gradient(&self, frame: &mut Frame<'_>) -> Result<()> {
        let (segments, starts) = self.segments();
        let lists = self.entries.lists.iter().flat_map(|l| &l.entries).copied().collect::<Vec<u32>>();
        let (rank, rows) = (self.entries.rank, starts.len() - 1);
        let (count, sums) = (segments.len(), segments.len() * rank);
        let partial = frame.make.words("segments' sums", sums)?;
        let [segments, lists] = [frame.data("segments", segments.as_flattened())?, frame.data("lists", &lists)?];
        let (point, slope, starts) = (frame.point.clone(), frame.slope.clone(), frame.data("starts", &starts)?);
        let uses = [&point, &self.places, &segments, &lists, &self.slopes].map(Use::Read);
        let uses: Vec<_> = uses.into_iter().chain([Use::Write(&partial)]).collect();
        let words = [count as u32, rank as u32, D as u32];
        frame.stage(When::Gradient, ("low-rank segments", &join(&[SEGMENTS])), &words, &uses, sums)?;
        let uses = [Use::Read(&starts), Use::Read(&partial), Use::Write(&slope)];
        let words = [rows as u32, rank as u32];
        frame.stage(When::Gradient, ("low-rank rows", &join(&[ROWS])), &words, &uses, rows * rank)
    }

    /// The segments of all factors' lists, and the first segment of each row.
    fn segments(&self) -> (Vec<[u32; 3]>, Vec<u32>) {
        let (mut segments, mut starts) = (Vec::new(), vec![0]);
        for (factor, lists) in (0..).zip(&self.entries.lists) {
            let before = factor * self.entries.len() as u32;
            for bounds in lists.starts.windows(2) {
                let firsts = (bounds[0]..bounds[1]).step_by(SEGMENT as usize);
                let segment = |first: u32| [before + first, before + bounds[1].min(first + SEGMENT), factor];
                segments.extend(firsts.map(segment));
                starts.push(segments.len() as u32);
            }
        }
        (segments, starts)
    }
}
