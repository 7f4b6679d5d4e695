//! One line of the table: what was measured, beside what, and whether that is good enough.

use std::fmt;

use crate::figures::Figures;

/// Above this share of the machine, what other programs do is noise in the figures.
const MOST_FOREIGN: f64 = 0.25;

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) workload: &'static str,
    pub(crate) metric: String,
    pub(crate) unit: &'static str,
    pub(crate) values: Figures,
    /// What the value is compared with.
    pub(crate) reference: Option<Figures>,
    /// Of each run, value by reference.
    pub(crate) ratios: Option<Figures>,
    pub(crate) goal: Option<Goal>,
    /// The largest share of the machine that other programs had during a run.
    pub(crate) foreign: f64,
}

/// What a line has to come to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    RatioAtLeast(f64),
    RatioAtMost(f64),
    /// In the line's unit.
    AtMost(f64),
}

impl Line {
    /// A line with a value only.
    pub(crate) fn new(
        workload: &'static str,
        metric: impl Into<String>,
        unit: &'static str,
        values: impl IntoIterator<Item = f64>,
    ) -> Self {
        Self {
            workload,
            metric: metric.into(),
            unit,
            values: Figures::new(values),
            reference: None,
            ratios: None,
            goal: None,
            foreign: 0.0,
        }
    }

    /// A line with values that are each compared with another, measured directly before or after it.
    pub(crate) fn beside(
        workload: &'static str,
        metric: impl Into<String>,
        unit: &'static str,
        pairs: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        let (values, references): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let ratios = values.iter().zip(&references);
        let ratios = Figures::new(ratios.map(|(value, reference)| value / reference));
        Self {
            reference: Some(Figures::new(references)),
            ratios: Some(ratios),
            ..Self::new(workload, metric, unit, values)
        }
    }

    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    pub(crate) fn foreign(mut self, shares: impl IntoIterator<Item = f64>) -> Self {
        self.foreign = shares.into_iter().fold(self.foreign, f64::max);
        self
    }

    pub(crate) fn ratio(&self) -> Option<f64> {
        self.ratios.as_ref().map(Figures::median)
    }

    /// Whether the goal is met, if there is one.
    pub(crate) fn met(&self) -> Option<bool> {
        Some(match self.goal? {
            Goal::RatioAtLeast(least) => self.ratio()? >= least,
            Goal::RatioAtMost(most) => self.ratio()? <= most,
            Goal::AtMost(most) => self.values.median() <= most,
        })
    }

    /// What has to be known about the figures.
    pub(crate) fn note(&self) -> Option<String> {
        let percent = self.foreign * 100.0;
        (self.foreign > MOST_FOREIGN)
            .then(|| format!("noise: other programs had {percent:.0} % of the CPUs"))
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtLeast(least) => write!(f, "≥ {least} ×"),
            Self::RatioAtMost(most) => write!(f, "≤ {most} ×"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}
