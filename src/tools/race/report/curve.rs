//! Curves that can be told apart even if they coincide, and the legend beside them.

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::RGBColor;

pub(super) const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;
type Pixel = (i32, i32);

/// Colours that most people can tell apart, in this order (Okabe and Ito 2008, then darker forms).
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

/// Lengths of dash and gap in pixels; `None` is a solid line. A solid line below a dashed line stays visible.
const DASHES: [Option<(i32, i32)>; 4] = [None, Some((12, 6)), Some((6, 4)), Some((2, 4))];

/// Half the size of a mark, in pixels.
const MARK: i32 = 5;
/// The number of marks on a curve.
const MARKS: usize = 5;

/// The legend, in pixels: the width of a letter, the width of the sample before a text, and the height of a line.
const LETTER: f64 = 7.5;
const SAMPLE: i32 = 36;
const LINE: i32 = 22;
const MOST_LETTERS: usize = 44;

/// The style of one of several curves: its colour, dash and mark. Each curve has its marks at other places, so that each of several equal
/// curves is visible.
#[derive(Clone, Copy)]
pub(super) struct Style {
    at: usize,
    of: usize,
}

impl Style {
    /// The style of curve `at` of `of`.
    pub(super) const fn new(at: usize, of: usize) -> Self {
        Self { at, of }
    }

    pub(super) fn color(self) -> RGBColor {
        let (r, g, b) = COLORS[self.at % COLORS.len()];
        RGBColor(r, g, b)
    }

    /// Draws the line.
    pub(super) fn line(self, area: &Area<'_>, points: &[Pixel]) -> Drawn {
        let points = points.to_vec();
        match DASHES[self.at % DASHES.len()] {
            None => area.draw(&PathElement::new(points, self.color().stroke_width(3)))?,
            Some((dash, gap)) => {
                area.draw(&DashedPathElement::new(points, dash, gap, self.color().stroke_width(2)))?;
            }
        }
        Ok(())
    }

    /// Draws the marks, between the marks of the other curves.
    pub(super) fn marks(self, area: &Area<'_>, points: &[Pixel]) -> Drawn {
        let offset = (self.at as f64 + 0.5) / self.of.max(1) as f64;
        (0..MARKS).try_for_each(|mark| self.mark(area, along(points, (mark as f64 + offset) / MARKS as f64)))
    }

    /// Draws one mark.
    fn mark(self, area: &Area<'_>, (x, y): Pixel) -> Drawn {
        let corners: &[Pixel] = match self.at % 5 {
            0 => {
                area.draw(&Circle::new((x, y), MARK, self.color().filled()))?;
                return Ok(());
            }
            1 => &[(-4, -4), (4, -4), (4, 4), (-4, 4)],
            2 => &[(0, -MARK), (MARK, 4), (-MARK, 4)],
            3 => &[(0, -6), (6, 0), (0, 6), (-6, 0)],
            _ => &[(0, MARK), (MARK, -4), (-MARK, -4)],
        };
        let corners = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect::<Vec<Pixel>>();
        area.draw(&Polygon::new(corners, self.color().filled()))?;
        Ok(())
    }
}

/// The point at this share of a line's length.
fn along(points: &[Pixel], share: f64) -> Pixel {
    let length = |pair: &[Pixel]| f64::from(pair[1].0 - pair[0].0).hypot(f64::from(pair[1].1 - pair[0].1));
    let mut left = share * points.windows(2).map(length).sum::<f64>();
    for pair in points.windows(2) {
        let length = length(pair);
        if left <= length && length > 0.0 {
            let between = |a: i32, b: i32| a + (left / length * f64::from(b - a)).round() as i32;
            return (between(pair[0].0, pair[1].0), between(pair[0].1, pair[1].1));
        }
        left -= length;
    }
    points.last().copied().unwrap_or_default()
}

/// The names of the curves, in a strip to the right of the plot.
pub(super) struct Legend<'a> {
    pub(super) labels: Vec<(Style, &'a str)>,
}

impl Legend<'_> {
    /// The width of the strip.
    pub(super) fn width(&self) -> u32 {
        let letters = self.labels.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0);
        (f64::from(SAMPLE + 20) + LETTER * letters.min(MOST_LETTERS) as f64).ceil() as u32
    }

    /// Draws the legend from this corner on.
    pub(super) fn draw(&self, area: &Area<'_>, (x, y): Pixel) -> Drawn {
        for ((style, label), row) in self.labels.iter().zip(0..) {
            let middle = y + LINE * row + LINE / 2;
            style.line(area, &[(x, middle), (x + SAMPLE - 8, middle)])?;
            style.mark(area, (x + (SAMPLE - 8) / 2, middle))?;
            let cut = label.chars().count() > MOST_LETTERS;
            let text =
                if cut { label.chars().take(MOST_LETTERS - 1).chain(['…']).collect() } else { (*label).to_owned() };
            area.draw(&Text::new(text, (x + SAMPLE, middle - 7), (FONT, 14)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_lie_on_the_line_and_those_of_equal_curves_apart() {
        let line = [(0, 0), (100, 0), (100, 300)];
        assert_eq!(along(&line, 0.125), (50, 0));
        assert_eq!(along(&line, 0.5), (100, 100));
        assert_eq!(along(&[(3, 4), (3, 4)], 0.5), (3, 4));
        let places = |at: usize| (0..MARKS).map(move |mark| (mark as f64 + (at as f64 + 0.5) / 4.0) / MARKS as f64);
        let mut all: Vec<Pixel> = (0..4).flat_map(places).map(|share| along(&line, share)).collect();
        all.dedup();
        all.sort_unstable();
        assert!(all.len() == 4 * MARKS && all.windows(2).all(|pair| pair[0] != pair[1]), "{all:?}");
    }
}
