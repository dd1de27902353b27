//! Paths of two parameters over the contours of their objective, as SVG.

use std::path::Path;

use plotters::prelude::*;

use super::axis::Axis;
use super::chart::failed;
use super::curve::{FONT, Legend, Style};
use crate::Result;
use crate::tools::files;

const SIZE: (u32, u32) = (820, 720);
/// The largest number of ticks per axis.
const TICKS: usize = 8;

/// The number of cells per axis.
const CELLS: usize = 120;

/// The number of contours between the least and the greatest value, evenly spaced in the logarithm.
const LEVELS: usize = 18;

/// A path with its label.
pub(super) struct Trail {
    pub(super) label: String,
    pub(super) style: Style,
    pub(super) points: Vec<[f32; 2]>,
}

/// Draws the trails over the objective's contours; `loss` is the objective.
pub(super) fn write(
    path: &Path,
    title: &str,
    trails: &[Trail],
    loss: impl FnMut([f32; 2]) -> Result<f64>,
) -> Result<()> {
    let window = Window::around(trails);
    let field = Field::sample(&window, loss)?;
    let text = draw(title, trails, &window, &field).map_err(|e| failed(path, &*e))?;
    files::write(path, text.as_bytes())
}

fn draw(title: &str, trails: &[Trail], window: &Window, field: &Field) -> Result<String, Box<dyn std::error::Error>> {
    let mut text = String::new();
    let legend = Legend { labels: trails.iter().map(|trail| (trail.style, trail.label.as_str())).collect() };
    let root = SVGBackend::with_string(&mut text, (SIZE.0 + legend.width(), SIZE.1)).into_drawing_area();
    root.fill(&WHITE)?;
    let (plot, _) = root.split_horizontally(SIZE.0);
    let (xs, ys) = (Axis::linear(window.x.0..window.x.1), Axis::linear(window.y.0..window.y.1));
    let mut chart = ChartBuilder::on(&plot)
        .caption(title, (FONT, 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(xs, ys)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_labels(TICKS)
        .y_labels(TICKS)
        .x_label_formatter(&|x| Axis::text(*x))
        .y_label_formatter(&|y| Axis::text(*y))
        .draw()?;
    for (at, level) in field.levels().into_iter().enumerate() {
        let shade = BLACK.mix(0.15 + 0.25 * at as f64 / LEVELS as f64);
        let segments = field.contour(level).into_iter();
        chart.draw_series(segments.map(|[a, b]| PathElement::new([window.place(a), window.place(b)], shade)))?;
    }
    let pixels = |trail: &Trail| -> Vec<(i32, i32)> {
        let finite = trail.points.iter().map(|p| p.map(f64::from)).filter(|p| p.iter().all(|x| x.is_finite()));
        finite.map(|[x, y]| chart.backend_coord(&(x, y))).collect()
    };
    for trail in trails {
        trail.style.line(&root, &pixels(trail))?;
    }
    for trail in trails {
        let pixels = pixels(trail);
        trail.style.marks(&root, &pixels)?;
        if let Some(end) = pixels.last() {
            root.draw(&Circle::new(*end, 7, trail.style.color().stroke_width(2)))?;
        }
    }
    legend.draw(&root, (SIZE.0 as i32, 48))?;
    root.present()?;
    drop((chart, plot, root));
    Ok(text)
}

/// The shown part of the plane.
struct Window {
    x: (f64, f64),
    y: (f64, f64),
}

impl Window {
    fn around(trails: &[Trail]) -> Self {
        let side = |axis: usize| {
            let values = trails.iter().flat_map(|t| &t.points).map(|p| f64::from(p[axis])).filter(|x| x.is_finite());
            let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
            let room = 0.15 * (high - low).max(1e-3);
            if low <= high { (low - room, high + room) } else { (-1.0, 1.0) }
        };
        Self { x: side(0), y: side(1) }
    }

    /// The place of a point counted in cells.
    fn place(&self, [x, y]: [f64; 2]) -> (f64, f64) {
        let along = |(low, high): (f64, f64), cells: f64| low + (high - low) * cells / CELLS as f64;
        (along(self.x, x), along(self.y, y))
    }
}

/// The objective's logarithm at the corners of the cells.
struct Field {
    values: Vec<f64>,
}

impl Field {
    fn sample(window: &Window, mut loss: impl FnMut([f32; 2]) -> Result<f64>) -> Result<Self> {
        let mut values = Vec::with_capacity((CELLS + 1) * (CELLS + 1));
        for row in 0..=CELLS {
            for column in 0..=CELLS {
                let (x, y) = window.place([column as f64, row as f64]);
                values.push(loss([x as f32, y as f32])?.max(f64::MIN_POSITIVE).ln());
            }
        }
        Ok(Self { values })
    }

    fn levels(&self) -> Vec<f64> {
        let finite = self.values.iter().copied().filter(|x| x.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
        (1..LEVELS).map(|at| low + (high - low) * at as f64 / LEVELS as f64).collect()
    }

    /// The contour's pieces, in units of cells. The crossings of the level with a cell's edges are joined in their order around the cell.
    /// The four crossings of a saddle give two pieces.
    fn contour(&self, level: f64) -> Vec<[[f64; 2]; 2]> {
        let cells = (0..CELLS).flat_map(|row| (0..CELLS).map(move |column| (column, row)));
        let pieces = |(column, row): (usize, usize)| {
            let corners = [(0, 0), (1, 0), (1, 1), (0, 1)].map(|(dx, dy)| (column + dx, row + dy));
            let edges = (0..4).map(|at| (corners[at], corners[(at + 1) % 4]));
            let crossings: Vec<[f64; 2]> = edges.filter_map(|(a, b)| self.crossing(a, b, level)).collect();
            crossings.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect::<Vec<_>>()
        };
        cells.flat_map(pieces).collect()
    }

    fn crossing(&self, a: (usize, usize), b: (usize, usize), level: f64) -> Option<[f64; 2]> {
        let value = |(column, row): (usize, usize)| self.values[row * (CELLS + 1) + column];
        let (from, to) = (value(a), value(b));
        let crosses = (from < level) != (to < level) && from.is_finite() && to.is_finite();
        let share = (level - from) / (to - from);
        let between = |a: usize, b: usize| a as f64 + share * (b as f64 - a as f64);
        crosses.then(|| [between(a.0, b.0), between(a.1, b.1)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contours_of_a_bowl_are_circles() {
        let window = Window { x: (-2.0, 2.0), y: (-2.0, 2.0) };
        let square = |p: [f32; 2]| f64::from(p[0] * p[0] + p[1] * p[1]);
        let field = Field::sample(&window, |p| Ok(square(p))).expect("a field");
        let pieces = field.contour(1.0_f64.ln());
        assert!(pieces.len() > 100, "{}", pieces.len());
        for end in pieces.iter().flatten() {
            let (x, y) = window.place(*end);
            assert!((x.hypot(y) - 1.0).abs() < 2e-3, "{x} {y}");
        }
    }
}
