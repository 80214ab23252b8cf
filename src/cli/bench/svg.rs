//! Charts as SVG: lines over a scale of numbers, and bars that are stacked.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 180.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Told apart by those who see no red or green too (Okabe and Ito).
const COLOURS: [&str; 7] =
    ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000"];

/// A line of a chart.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// What the axes say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Titles<'a> {
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
}

/// Lines over a scale that begins at zero.
pub(super) fn lines(titles: Titles<'_>, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_scale = Scale::up_to(points().map(|point| point.0).fold(0.0, f64::max));
    let y_scale = Scale::up_to(points().map(|point| point.1).fold(0.0, f64::max));
    let mut svg = frame(titles, &y_scale);
    for tick in x_scale.ticks() {
        let at = x(x_scale.share(tick));
        label(&mut svg, at, HEIGHT - BOTTOM + 18.0, "middle", &number(tick));
    }
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let at = |point: &(f64, f64)| (x(x_scale.share(point.0)), y(y_scale.share(point.1)));
        let path: Vec<String> =
            line.points.iter().map(at).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let path = path.join(" ");
        let _ = writeln!(
            svg,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        );
        for (x, y) in line.points.iter().map(at) {
            let _ =
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
    legend(&mut svg, lines.iter().map(|line| line.name.as_str()));
    svg + "</svg>\n"
}

/// Bars, one for each row, of parts on top of each other.
pub(super) fn bars(titles: Titles<'_>, parts: &[&str], rows: &[(String, Vec<f64>)]) -> String {
    let highest = rows.iter().map(|(_, values)| values.iter().sum()).fold(0.0, f64::max);
    let scale = Scale::up_to(highest);
    let mut svg = frame(titles, &scale);
    let place = 1.0 / rows.len().max(1) as f64;
    for (number, (name, values)) in rows.iter().enumerate() {
        let (begin, width) =
            (x(place * (number as f64 + 0.2)), place * 0.6 * (WIDTH - LEFT - RIGHT));
        let mut below = 0.0;
        for (value, colour) in values.iter().zip(COLOURS.iter().cycle()) {
            let (top, height) = (y(scale.share(below + value)), y(0.0) - y(scale.share(*value)));
            let _ = writeln!(
                svg,
                "<rect x=\"{begin:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
                 fill=\"{colour}\"/>"
            );
            below += value;
        }
        // There is room for short lines alone.
        for (line, part) in (1_u32..).zip(name.split(", ")) {
            let at = HEIGHT - BOTTOM + 2.0 + 16.0 * f64::from(line);
            label(&mut svg, begin + width / 2.0, at, "middle", part);
        }
    }
    legend(&mut svg, parts.iter().copied());
    svg + "</svg>\n"
}

/// From zero to a round number.
struct Scale {
    step: f64,
    steps: u32,
}

impl Scale {
    fn up_to(highest: f64) -> Self {
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let power = 10_f64.powf((highest / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| step * 5.0 >= highest * 0.999)
            .unwrap_or(highest);
        // Truncation is the intent: there are one to five.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let steps = (highest * 0.999 / step).ceil() as u32;
        Self { step, steps: steps.max(1) }
    }

    fn share(&self, value: f64) -> f64 {
        value / (self.step * f64::from(self.steps))
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (0..=self.steps).map(|number| f64::from(number) * self.step)
    }
}

fn x(share: f64) -> f64 {
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn y(share: f64) -> f64 {
    HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
}

fn frame(titles: Titles<'_>, scale: &Scale) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    let middle = x(0.5);
    let _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"22\" text-anchor=\"middle\" font-size=\"15\">{}</text>",
        escaped(titles.title)
    );
    label(&mut svg, middle, HEIGHT - 10.0, "middle", titles.x);
    let half = y(0.5);
    let _ = writeln!(
        svg,
        "<text x=\"16\" y=\"{half}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {half})\">{}\
         </text>",
        escaped(titles.y)
    );
    for tick in scale.ticks() {
        let at = y(scale.share(tick));
        let (begin, end) = (x(0.0), x(1.0));
        let _ = writeln!(
            svg,
            "<line x1=\"{begin}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#cccccc\"/>"
        );
        label(&mut svg, begin - 6.0, at + 4.0, "end", &number(tick));
    }
    svg
}

fn legend<'a>(svg: &mut String, names: impl Iterator<Item = &'a str>) {
    for ((number, name), colour) in names.enumerate().zip(COLOURS.iter().cycle()) {
        let (left, top) = (x(1.0) + 14.0, TOP + 20.0 * number as f64);
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"{top}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
        );
        label(svg, left + 18.0, top + 10.0, "start", name);
    }
}

fn label(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

fn number(value: f64) -> String {
    if value >= 10.0 || value == value.round() {
        format!("{value:.0}")
    } else {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').to_owned()
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TITLES: Titles<'_> = Titles { title: "a < b", x: "offered", y: "in" };

    #[test]
    fn scales_are_round() {
        for (highest, top) in
            [(0.0, 1.0), (0.7, 0.8), (5.0, 5.0), (1_480.0, 1_500.0), (2_100.0, 2_500.0)]
        {
            let scale = Scale::up_to(highest);
            let last = scale.ticks().last().unwrap();
            assert!((last - top).abs() < 1e-9, "{highest}: {last}");
            assert!(scale.share(highest) <= 1.0, "{highest}");
        }
    }

    #[test]
    fn points_are_where_they_belong() {
        let line = Line { name: "config".to_owned(), points: vec![(0.0, 0.0), (10.0, 5.0)] };
        let svg = lines(TITLES, &[line]);
        let (low, high) =
            (format!("{LEFT:.1},{:.1}", HEIGHT - BOTTOM), format!("{:.1},{TOP:.1}", WIDTH - RIGHT));
        assert!(svg.contains(&format!("points=\"{low} {high}\"")), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains(">config<"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn bars_stand_on_each_other() {
        let svg = bars(TITLES, &["one", "two"], &[("row".to_owned(), vec![2.0, 3.0])]);
        let tops: Vec<&str> = svg
            .lines()
            .filter(|line| {
                line.contains("height=\"") && line.contains("#0072B2\"/>")
                    || line.contains("#E69F00\"/>")
            })
            .filter(|line| !line.contains("width=\"12\""))
            .collect();
        let [below, above] = tops[..] else { panic!("{svg}") };
        // 5 is the whole height of 270.
        assert!(below.contains("height=\"108.0\"") && below.contains("y=\"202.0\""), "{below}");
        assert!(above.contains("height=\"162.0\"") && above.contains("y=\"40.0\""), "{above}");
    }
}
