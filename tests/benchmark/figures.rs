//! The figures of several runs.

/// What several runs gave, in order of size.
#[derive(Debug, Clone)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    pub(crate) fn new(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }

    /// The one in the middle; not a number if there is none.
    pub(crate) fn median(&self) -> f64 {
        let upper = self.at(self.0.len() / 2);
        let lower = self.at(self.0.len().saturating_sub(1) / 2);
        f64::midpoint(lower, upper)
    }

    fn at(&self, place: usize) -> f64 {
        self.0.get(place).copied().unwrap_or(f64::NAN)
    }
}
