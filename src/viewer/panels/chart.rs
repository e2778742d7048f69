//! Charts of values over training time.

use std::fmt::Write as _;

use egui::{Align2, Color32, FontId, Pos2, Rect, Sense, Stroke, Vec2};

use crate::report::{Axis, Range};
use crate::viewer::state::Curve;

/// Height of a chart in points, with its title and labels.
const HEIGHT: f32 = 138.0;
/// Minimum width of the labels of the value axis, in points, so that charts below each other are aligned.
const LEFT: f32 = 46.0;
/// Width of a character of a label, in points, at most.
const CHARACTER: f32 = 6.5;
const TOP: f32 = 20.0;
const BOTTOM: f32 = 32.0;
const RIGHT: f32 = 8.0;
/// Space between the names of lines, in points.
const GAP: f32 = 10.0;
/// Maximum number of intervals between ticks.
const PARTS_UP: f64 = 4.0;
const PARTS_ACROSS: f64 = 5.0;

/// Return `label` with powers of ten as `1e-5`: the font has no superscripts.
fn without_superscripts(label: &str) -> String {
    let Some((factor, power)) = label.split_once("10").filter(|(_, p)| !p.is_ascii()) else {
        return label.to_owned();
    };
    let digit = |c: char| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().position(|s| s == c);
    let power: String = power
        .chars()
        .filter_map(|c| match c {
            '⁻' => Some('-'),
            c => digit(c).and_then(|d| char::from_digit(d as u32, 10)),
        })
        .collect();
    match factor.trim_end_matches('×') {
        "" => format!("1e{power}"),
        factor => format!("{factor}e{power}"),
    }
}

/// A line of a chart.
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    pub(super) curve: &'a Curve,
    pub(super) color: Color32,
}

/// A chart, whose title names the unit of its values.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) is_logarithmic: bool,
    pub(super) series: &'a [Series<'a>],
    /// Formats a value under the pointer.
    pub(super) format: fn(f64) -> String,
}

impl Chart<'_> {
    /// Draw the chart over the width of `ui`; only its title before there are values.
    pub(super) fn show(&self, ui: &mut egui::Ui) {
        let is_drawn = |v: f64| v.is_finite() && (v > 0.0 || !self.is_logarithmic);
        let points = || self.series.iter().flat_map(|s| &s.curve.0);
        let values = points().map(|p| p[1]).filter(|v| is_drawn(*v));
        let Some(range) = Range::of(values) else {
            return;
        };
        let size = Vec2::new(ui.available_width(), HEIGHT);
        let (area, response) = ui.allocate_exact_size(size, Sense::hover());
        let vertical = if self.is_logarithmic {
            Axis::logarithmic(range, PARTS_UP)
        } else {
            Axis::linear(range, PARTS_UP)
        };
        let longest = vertical
            .ticks
            .iter()
            .map(|(_, label)| label.chars().count());
        let left = LEFT.max(6.0 + CHARACTER * longest.max().unwrap_or(0) as f32);
        let plot = Rect::from_min_max(
            area.min + Vec2::new(left, TOP),
            area.max - Vec2::new(RIGHT, BOTTOM),
        );
        let end = points().map(|p| p[0]).fold(1e-3, f64::max);
        let (unit, horizontal) = Axis::of_time(end, PARTS_ACROSS);
        let x = |seconds: f64| plot.left() + horizontal.share(seconds) as f32 * plot.width();
        let y = |value: f64| plot.bottom() - vertical.share(value) as f32 * plot.height();
        let painter = ui.painter_at(area);
        let visuals = ui.visuals();
        let (text, faint) = (visuals.text_color(), visuals.weak_text_color());
        let font = FontId::proportional(11.0);
        let label = |at: Pos2, align: Align2, label: &str, color: Color32| {
            painter.text(at, align, label, font.clone(), color)
        };
        let grid = Stroke::new(1.0, faint.gamma_multiply(0.3));
        for (value, name) in &vertical.ticks {
            let at = y(*value);
            painter.hline(plot.x_range(), at, grid);
            let place = Pos2::new(plot.left() - 4.0, at);
            label(
                place,
                Align2::RIGHT_CENTER,
                &without_superscripts(name),
                text,
            );
        }
        for (seconds, name) in &horizontal.ticks {
            let at = x(*seconds);
            painter.vline(at, plot.y_range(), grid);
            let place = Pos2::new(at, plot.bottom() + 3.0);
            label(place, Align2::CENTER_TOP, name, text);
        }
        label(
            Pos2::new(plot.right(), area.bottom()),
            Align2::RIGHT_BOTTOM,
            &format!("{unit} of training"),
            faint,
        );
        let title = label(area.left_top(), Align2::LEFT_TOP, self.title, text);
        self.legend(&painter, (title, plot), &font);
        for series in self.series {
            let drawn = series.curve.0.iter().filter(|p| is_drawn(p[1]));
            let line: Vec<Pos2> = drawn.map(|p| Pos2::new(x(p[0]), y(p[1]))).collect();
            if let [one] = *line {
                painter.circle_filled(one, 2.0, series.color);
            }
            painter.line(line, Stroke::new(1.5, series.color));
        }
        if let Some(pointer) = response.hover_pos().filter(|at| plot.contains(*at)) {
            let share = f64::from((pointer.x - plot.left()) / plot.width());
            painter.vline(pointer.x, plot.y_range(), Stroke::new(1.0, faint));
            response.on_hover_text_at_pointer(self.reading(share * end));
        }
    }

    /// Draw the names of the lines, if there are several: at the right of the title, or in the plot if there is no room.
    fn legend(&self, painter: &egui::Painter, (title, plot): (Rect, Rect), font: &FontId) {
        if self.series.len() < 2 {
            return;
        }
        let name = |series: &Series<'_>| {
            painter.layout_no_wrap(series.name.to_owned(), font.clone(), series.color)
        };
        let names: Vec<_> = self.series.iter().map(name).collect();
        let width: f32 = names.iter().map(|name| name.size().x + GAP).sum();
        let fits = title.right() + width <= plot.right();
        let mut at = Pos2::new(plot.right() - width + GAP, title.top());
        if !fits {
            at = Pos2::new(plot.right(), plot.bottom() - 4.0);
        }
        for (name, series) in names.into_iter().zip(self.series) {
            let size = name.size();
            if fits {
                painter.galley(at, name, series.color);
                at.x += size.x + GAP;
            } else {
                at.y -= size.y;
                painter.galley(at - Vec2::new(size.x, 0.0), name, series.color);
            }
        }
    }

    /// Return the values at `seconds`: those of the last points before.
    fn reading(&self, seconds: f64) -> String {
        let mut text = crate::report::duration(seconds);
        for series in self.series {
            let points = &series.curve.0;
            let before = points.partition_point(|p| p[0] <= seconds);
            let value = before
                .checked_sub(1)
                .map_or("–".to_owned(), |last| (self.format)(points[last][1]));
            let _ = write!(text, "\n{}: {value}", series.name);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_written_without_superscripts() {
        for (label, expected) in [
            ("10⁻⁵", "1e-5"),
            ("5×10⁻¹²", "5e-12"),
            ("0.10", "0.10"),
            ("100", "100"),
        ] {
            assert_eq!(without_superscripts(label), expected);
        }
    }

    #[test]
    fn a_reading_is_of_the_last_points_before_the_pointer() {
        let curve = Curve(vec![[1.0, 20.0], [2.0, 25.0], [4.0, 26.0]]);
        let chart = Chart {
            title: "PSNR",
            is_logarithmic: false,
            series: &[Series {
                name: "held out",
                curve: &curve,
                color: Color32::WHITE,
            }],
            format: |v| format!("{v:.0} dB"),
        };
        assert_eq!(chart.reading(0.5), "0.5 s\nheld out: –");
        assert_eq!(chart.reading(3.9), "3.9 s\nheld out: 25 dB");
        assert_eq!(chart.reading(9.0), "9.0 s\nheld out: 26 dB");
    }
}
