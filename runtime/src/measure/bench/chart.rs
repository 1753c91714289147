//! A report as a chart: a bar for each contender, as long as its median, with its spread.

use plotters::prelude::*;

use super::{BenchReport, BenchTable};
use crate::error::{Error, Result};

/// Sizes in pixels.
const WIDE: u32 = 960;
const NAMES: i32 = 330;
const LINE: i32 = 22;
const TITLE: i32 = 44;
const EDGE: i32 = 16;

/// All tables of a report below each other, as SVG. Its colours can be read on light and on dark ground.
///
/// # Errors
/// It cannot be drawn.
pub fn svg(report: &BenchReport) -> Result<String> {
    let tables = report.tables.iter().filter(|table| !table.rows.is_empty());
    let heights = tables.clone().map(|table| TITLE + LINE * table.rows.len() as i32);
    let height = heights.sum::<i32>() + TITLE + 2 * EDGE;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDE, height as u32)).into_drawing_area();
        let mut top = EDGE;
        write(&area, &format!("garth bench {}", report.bench), (EDGE, top), 22)?;
        write(&area, &report.machine.words(), (EDGE, top + 24), 15)?;
        top += TITLE + EDGE;
        for table in tables {
            bars(&area, table, top)?;
            top += TITLE + LINE * table.rows.len() as i32;
        }
        area.present().map_err(failed)?;
    }
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(format!("draw the chart: {error}"))
}

/// Grey that contrasts with white and with black.
const INK: RGBColor = RGBColor(118, 118, 118);
const BAR: RGBColor = RGBColor(86, 135, 196);
/// What is Garth's.
const OURS: RGBColor = RGBColor(214, 121, 44);

fn write(area: &Area<'_>, text: &str, at: (i32, i32), size: i32) -> Result<()> {
    let style = TextStyle::from(("sans-serif", size).into_font()).color(&INK);
    area.draw_text(text, &style, at).map_err(failed)
}

fn bars(area: &Area<'_>, table: &BenchTable, top: i32) -> Result<()> {
    let unit = table.columns.first().map_or("", String::as_str);
    let better = if table.more_is_better { "more is better" } else { "less is better" };
    write(area, &format!("{}: {unit}, {better}", table.title), (EDGE, top), 17)?;
    let first = |row: &super::BenchRow| row.figures.first().copied().flatten();
    let most = table.rows.iter().filter_map(first).map(|figure| figure.p90).fold(0.0, f64::max);
    let room = f64::from(WIDE as i32 - NAMES - 2 * EDGE - 90);
    let place = |value: f64| match most > 0.0 {
        true => NAMES + (value / most * room) as i32,
        false => NAMES,
    };
    for (number, row) in table.rows.iter().enumerate() {
        let y = top + 24 + LINE * number as i32;
        write(area, &row.name, (EDGE, y), 15)?;
        let Some(figure) = first(row) else { continue };
        let color = if row.name.starts_with("garth") { OURS } else { BAR };
        let bar = [(NAMES, y), (place(figure.median).max(NAMES + 1), y + LINE - 8)];
        area.draw(&Rectangle::new(bar, color.filled())).map_err(failed)?;
        let middle = y + (LINE - 8) / 2;
        let whisker = vec![(place(figure.p10), middle), (place(figure.p90), middle)];
        area.draw(&PathElement::new(whisker, INK)).map_err(failed)?;
        let value = super::number(figure.median);
        write(area, &value, (place(figure.p90.max(figure.median)) + 6, y), 15)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{BenchRow, Spread};
    use super::*;

    #[test]
    fn a_chart_has_a_bar_and_a_name_for_each() {
        let row = |name: &str, value: f64| BenchRow {
            name: name.into(),
            figures: vec![Spread::of(vec![value, value * 1.1])],
        };
        let table = BenchTable {
            title: "A <b> parent & its child".into(),
            columns: vec!["ms".into()],
            more_is_better: false,
            base: None,
            rows: vec![
                row("garth", 1.0),
                row("other", 2.0),
                BenchRow { name: "none".into(), figures: vec![None] },
            ],
            conclusions: Vec::new(),
        };
        let svg = svg(&BenchReport::new("spawn", vec![table], Vec::new())).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert_eq!(svg.matches("fill=\"#D6792C\"").count(), 1, "{svg}");
        assert_eq!(svg.matches("fill=\"#5687C4\"").count(), 1, "{svg}");
        assert!(svg.contains("&lt;b&gt; parent &amp; its"), "{svg}");
    }
}
