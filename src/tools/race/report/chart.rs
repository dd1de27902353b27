//! Line charts as SVG.

use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;
use plotters::style::RGBColor;

use crate::{Error, Result};

const SIZE: (u32, u32) = (960, 540);
const FONT: &str = "sans-serif";

/// Colours that stay apart for most eyes, in this order (Okabe and Ito 2008, then darker forms).
const COLORS: [(u8, u8, u8); 12] = [
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (90, 90, 90),
    (170, 150, 0),
    (0, 60, 110),
    (130, 50, 0),
    (0, 90, 65),
    (120, 40, 90),
];

/// A line's colour.
pub(super) fn color(at: usize) -> RGBColor {
    let (r, g, b) = COLORS[at % COLORS.len()];
    RGBColor(r, g, b)
}

/// A line with what it stands for.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) color: usize,
    /// x, y, and the least and greatest y of all seeds.
    pub(super) points: Vec<[f64; 4]>,
}

/// What a chart shows.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    /// Decades on the x axis.
    pub(super) log_x: bool,
    pub(super) lines: Vec<Line>,
}

impl Chart<'_> {
    /// Writes the chart; nothing where no line has two points.
    pub(super) fn write(&self, path: &Path) -> Result<bool> {
        let lines: Vec<&Line> = self.lines.iter().filter(|line| line.points.len() > 1).collect();
        if lines.is_empty() {
            return Ok(false);
        }
        let log_y = spans_decades(&lines);
        let (x_axis, y_axis) = (Axis { log: self.log_x }, Axis { log: log_y });
        let (xs, ys) = (range(&lines, x_axis, &[0]), range(&lines, y_axis, &[1, 2, 3]));
        self.draw(path, &lines, (x_axis, xs), (y_axis, ys)).map(|()| true).map_err(|e| failed(path, &*e))
    }

    fn draw(
        &self,
        path: &Path,
        lines: &[&Line],
        (x_axis, xs): (Axis, Range<f64>),
        (y_axis, ys): (Axis, Range<f64>),
    ) -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(self.title, (FONT, 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(76)
            .build_cartesian_2d(xs, ys)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|x| x_axis.text(*x))
            .y_label_formatter(&|y| y_axis.text(*y))
            .draw()?;
        for line in lines {
            let color = color(line.color);
            let at = |p: &[f64; 4], y: usize| (x_axis.place(p[0]), y_axis.place(p[y]));
            let above = line.points.iter().map(|p| at(p, 3));
            let band: Vec<_> = line.points.iter().map(|p| at(p, 2)).chain(above.rev()).collect();
            chart.draw_series([Polygon::new(band, color.mix(0.12))])?;
            let path =
                PathElement::new(line.points.iter().map(|p| at(p, 1)).collect::<Vec<_>>(), color.stroke_width(2));
            let key = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2));
            chart.draw_series([path])?.label(&line.label).legend(key);
        }
        chart.configure_series_labels().background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.2)).draw()?;
        root.present()?;
        Ok(())
    }
}

/// How numbers lie on an axis.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) log: bool,
}

impl Axis {
    fn place(self, x: f64) -> f64 {
        if self.log { x.max(f64::MIN_POSITIVE).log10() } else { x }
    }

    fn text(self, x: f64) -> String {
        let x = if self.log { 10.0_f64.powf(x) } else { x };
        let size = x.abs();
        match size {
            _ if size == 0.0 => "0".to_owned(),
            _ if !(1e-3..1e5).contains(&size) => format!("{x:.1e}"),
            _ if size >= 100.0 => format!("{x:.0}"),
            _ => format!("{x:.3}"),
        }
    }
}

/// Whether decades tell more: all above 0, and the largest 20 times the smallest.
fn spans_decades(lines: &[&Line]) -> bool {
    let values = || lines.iter().flat_map(|line| &line.points).flat_map(|p| &p[1..]).copied();
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    least > 0.0 && most > 20.0 * least
}

fn range(lines: &[&Line], axis: Axis, members: &[usize]) -> Range<f64> {
    let values = lines.iter().flat_map(|line| &line.points).flat_map(|p| members.iter().map(|m| axis.place(p[*m])));
    let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    let room = 0.03 * (most - least).max(1e-9 * most.abs()).max(f64::MIN_POSITIVE);
    least - room..most + room
}

/// A drawing that could not be written.
pub(super) fn failed(path: &Path, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Io { path: path.display().to_string(), source: std::io::Error::other(error.to_string()) }
}
