//! How far the benchmark has come, for someone who waits for it at a terminal.

use std::{borrow::Cow, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::Result;

/// A bar on the standard error, if that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn start(workloads: usize) -> Result<Self> {
        let style = "{elapsed} [{bar:30}] {pos} of {len}  {prefix}: {msg}";
        let bar = ProgressBar::new(workloads.try_into()?)
            .with_style(ProgressStyle::with_template(style)?.progress_chars("=> "));
        bar.enable_steady_tick(Duration::from_millis(500));
        Ok(Self(bar))
    }

    /// Begins with a workload.
    pub(crate) fn begin(&self, workload: &'static str) {
        self.0.set_prefix(workload);
        self.say("");
    }

    /// Tells what is measured now.
    pub(crate) fn say(&self, what: impl Into<Cow<'static, str>>) {
        self.0.set_message(what);
    }

    /// Is through with a workload.
    pub(crate) fn end(&self) {
        self.0.inc(1);
    }

    /// Leaves the terminal to the table.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
