//! The table, for people and for programs.

use std::fmt;

use serde::Serialize;

use crate::{Result, figures::Figures, line::Line};

/// Prints lines below each other.
#[derive(Debug)]
pub(crate) struct Table<'l>(pub(crate) &'l [Line]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![
            [
                "",
                "measured",
                "value",
                "",
                "reference",
                "ratio",
                "goal",
                "",
            ]
            .map(str::to_owned),
        ];
        rows.extend(self.0.iter().map(cells));
        let widths: [usize; 8] = std::array::from_fn(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        });
        let notes = std::iter::once(None).chain(self.0.iter().map(Line::note));
        for (row, note) in rows.iter().zip(notes) {
            let [workload, metric, value, unit, reference, ratio, goal, met] = row;
            let [w0, w1, w2, w3, w4, w5, w6, _] = widths;
            let line = format!(
                "{workload:<w0$}  {metric:<w1$}  {value:>w2$} {unit:<w3$}  {reference:>w4$}  {ratio:>w5$}  {goal:<w6$}  {met}"
            );
            writeln!(f, "{}", line.trim_end())?;
            if let Some(note) = note {
                writeln!(f, "{:w0$}  {note}", "")?;
            }
        }
        Ok(())
    }
}

fn cells(line: &Line) -> [String; 8] {
    [
        line.workload.to_owned(),
        line.metric.clone(),
        number(line.values.median()),
        line.unit.to_owned(),
        line.reference
            .as_ref()
            .map(|reference| number(reference.median()))
            .unwrap_or_default(),
        line.ratio().map(number).unwrap_or_default(),
        line.goal.map(|goal| goal.to_string()).unwrap_or_default(),
        match line.met() {
            Some(true) => "met".to_owned(),
            Some(false) => "not met".to_owned(),
            None => String::new(),
        },
    ]
}

/// Three digits and more.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The lines as a list of JSON objects.
pub(crate) fn json(lines: &[Line]) -> Result<String> {
    let records: Vec<Record<'_>> = lines.iter().map(Record::new).collect();
    Ok(serde_json::to_string_pretty(&records)? + "\n")
}

#[derive(Debug, Serialize)]
struct Record<'l> {
    workload: &'static str,
    metric: &'l str,
    value: f64,
    unit: &'static str,
    reference: Option<f64>,
    ratio: Option<f64>,
    goal: Option<String>,
    met: Option<bool>,
}

impl<'l> Record<'l> {
    fn new(line: &'l Line) -> Self {
        Self {
            workload: line.workload,
            metric: &line.metric,
            value: line.values.median(),
            unit: line.unit,
            reference: line.reference.as_ref().map(Figures::median),
            ratio: line.ratio(),
            goal: line.goal.map(|goal| goal.to_string()),
            met: line.met(),
        }
    }
}
