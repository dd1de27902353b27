//! Line charts as SVG.

use std::path::Path;

use plotters::prelude::*;

use super::axis::Axis;
use super::curve::{FONT, Legend, Style};
use crate::tools::files;
use crate::{Error, Result};

const SIZE: (u32, u32) = (960, 540);

/// The largest number of ticks per axis.
const TICKS: usize = 8;

/// A line with its label.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) style: Style,
    /// x, y, and the least and greatest y of all seeds.
    pub(super) points: Vec<[f64; 4]>,
}

/// The content of a chart.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    /// Whether the x axis is logarithmic.
    pub(super) log_x: bool,
    pub(super) lines: Vec<Line>,
}

impl Chart<'_> {
    /// Writes the chart and returns true; if no line has two points, writes nothing and returns false.
    pub(super) fn write(&self, path: &Path) -> Result<bool> {
        let lines: Vec<&Line> = self.lines.iter().filter(|line| line.points.len() > 1).collect();
        if lines.is_empty() {
            return Ok(false);
        }
        let text = self.draw(&lines).map_err(|e| failed(path, &*e))?;
        files::write(path, text.as_bytes()).map(|()| true)
    }

    fn draw(&self, lines: &[&Line]) -> Result<String, Box<dyn std::error::Error>> {
        let mut text = String::new();
        let legend = Legend { labels: lines.iter().map(|line| (line.style, line.label.as_str())).collect() };
        let root = SVGBackend::with_string(&mut text, (SIZE.0 + legend.width(), SIZE.1)).into_drawing_area();
        root.fill(&WHITE)?;
        let (plot, _) = root.split_horizontally(SIZE.0);
        let points = || lines.iter().flat_map(|line| &line.points);
        let xs = Axis::around(points().map(|p| p[0]), self.log_x);
        let ys = Axis::around(points().flat_map(|p| &p[1..]).copied(), spans_decades(lines));
        let mut chart = ChartBuilder::on(&plot)
            .caption(self.title, (FONT, 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(76)
            .build_cartesian_2d(xs, ys)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_labels(TICKS)
            .y_labels(TICKS)
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|x| Axis::text(*x))
            .y_label_formatter(&|y| Axis::text(*y))
            .draw()?;
        let pixels = |line: &Line, y: usize| -> Vec<(i32, i32)> {
            line.points.iter().map(|p| chart.backend_coord(&(p[0], p[y]))).collect()
        };
        for line in lines {
            let mut band = pixels(line, 2);
            band.extend(pixels(line, 3).into_iter().rev());
            root.draw(&Polygon::new(band, line.style.color().mix(0.12)))?;
        }
        for line in lines {
            line.style.line(&root, &pixels(line, 1))?;
        }
        for line in lines {
            line.style.marks(&root, &pixels(line, 1))?;
        }
        legend.draw(&root, (SIZE.0 as i32, 48))?;
        root.present()?;
        drop((chart, plot, root));
        Ok(text)
    }
}

/// Whether the y axis should be logarithmic: all values are above 0, and the largest is more than 20 times the smallest.
fn spans_decades(lines: &[&Line]) -> bool {
    let values = || lines.iter().flat_map(|line| &line.points).flat_map(|p| &p[1..]).copied();
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    least > 0.0 && most > 20.0 * least
}

/// The error of a drawing that failed.
pub(super) fn failed(path: &Path, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Io { path: path.display().to_string(), source: std::io::Error::other(error.to_string()) }
}
