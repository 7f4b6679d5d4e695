//! What is to happen at which point, as `EVENTFLOW_FAIL` says it:
//! `point=action[@first][*times]`, any number of them, joined by commas.
//!
//! - `after_commit=abort`: ends the process, with no destructor run.
//! - `before_extend=panic`: ends the task, as a bug in it would.
//! - `before_ack=stall`: never gets past the point.
//! - `after_insert=fail*2`: fails with an error that passes, the first two times.
//! - `after_read=abort@3`: acts from the third time on; `@3*1` the third time only.

use std::{
    env,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Point;
use crate::error::{Error, ErrorKind};

const VARIABLE: &str = "EVENTFLOW_FAIL";

/// What happens at the points of a process.
#[derive(Debug, Default)]
pub(super) struct Plan {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    point: Point,
    action: Action,
    /// The first time that it acts, counted from 1.
    first: u64,
    times: u64,
    reached: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Abort,
    Panic,
    Stall,
    Fail,
}

/// The plan in this process's environment.
#[allow(
    clippy::panic,
    reason = "a test that names no point would test nothing"
)]
pub(super) fn of_this_process() -> &'static Plan {
    static PLAN: LazyLock<Plan> = LazyLock::new(|| {
        let text = env::var(VARIABLE).unwrap_or_default();
        Plan::parse(&text).unwrap_or_else(|error| panic!("{VARIABLE}: {error}"))
    });
    &PLAN
}

impl Plan {
    fn parse(text: &str) -> Result<Self, String> {
        let rules = text.split(',').map(str::trim);
        let rules = rules.filter(|rule| !rule.is_empty()).map(Rule::parse);
        rules.collect::<Result<_, _>>().map(|rules| Self { rules })
    }

    #[allow(clippy::panic, reason = "a test may want to see what a panic does")]
    pub(super) async fn reach(&self, point: Point) -> Result<(), Error> {
        for rule in self.rules.iter().filter(|rule| rule.point == point) {
            if !rule.acts_now() {
                continue;
            }
            let (point, action) = (point.name(), rule.action);
            tracing::error!(point, ?action, "fail point");
            match action {
                Action::Abort => std::process::abort(),
                Action::Panic => panic!("fail point `{point}`"),
                Action::Stall => std::future::pending().await,
                Action::Fail => {
                    let message = format!("fail point `{point}`");
                    return Err(Error::new(ErrorKind::Consumer, message).transient(true));
                }
            }
        }
        Ok(())
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn stops_at(&self, point: Point) -> bool {
        self.rules.iter().any(|rule| rule.point == point)
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        let (point, action) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is no rule; write `point=action`"))?;
        let point = Point::ALL
            .iter()
            .copied()
            .find(|known| known.name() == point)
            .ok_or_else(|| format!("there is no point `{point}`; {}", known_points()))?;
        let (action, times) = number(action, '*', u64::MAX)?;
        let (action, first) = number(action, '@', 1)?;
        let action = match action {
            "abort" => Action::Abort,
            "panic" => Action::Panic,
            "stall" => Action::Stall,
            "fail" => Action::Fail,
            _ => {
                return Err(format!(
                    "there is no action `{action}`; there are abort, panic, stall, fail"
                ));
            }
        };
        Ok(Self {
            point,
            action,
            first,
            times,
            reached: AtomicU64::new(0),
        })
    }

    /// Counts this time.
    fn acts_now(&self) -> bool {
        let reached = self.reached.fetch_add(1, Ordering::Relaxed) + 1;
        reached >= self.first && reached - self.first < self.times
    }
}

/// Splits a number off the end.
fn number(text: &str, mark: char, default: u64) -> Result<(&str, u64), String> {
    let Some((text, number)) = text.split_once(mark) else {
        return Ok((text, default));
    };
    match number.parse() {
        Ok(number) if number > 0 => Ok((text, number)),
        _ => Err(format!("`{mark}{number}` is no number from 1 on")),
    }
}

fn known_points() -> String {
    let names: Vec<_> = Point::ALL.iter().map(|point| point.name()).collect();
    format!("there are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn error(text: &str) -> String {
        Plan::parse(text).unwrap_err()
    }

    async fn answers(plan: &Plan, point: Point, times: usize) -> Vec<bool> {
        let mut answers = Vec::new();
        for _ in 0..times {
            answers.push(plan.reach(point).await.is_ok());
        }
        answers
    }

    #[test]
    fn every_point_is_found_by_its_name() {
        for point in Point::ALL {
            let rule = Rule::parse(&format!("{}=abort", point.name())).unwrap();

            assert_eq!((rule.point, rule.action), (*point, Action::Abort));
        }
    }

    #[tokio::test]
    async fn a_point_fails_the_times_that_the_plan_says() {
        let plan = Plan::parse("after_insert=fail*2, before_ack=fail@2,after_read=fail@2*1");
        let plan = plan.unwrap();

        let after_insert = answers(&plan, Point::AfterInsert, 3).await;
        let before_ack = answers(&plan, Point::BeforeAck, 3).await;
        let after_read = answers(&plan, Point::AfterRead, 3).await;

        assert_eq!(after_insert, [false, false, true]);
        assert_eq!(before_ack, [true, false, false]);
        assert_eq!(after_read, [true, false, true]);
        assert_eq!(answers(&plan, Point::AfterAck, 1).await, [true]);
    }

    #[tokio::test]
    async fn a_failure_passes_by_itself() {
        let plan = Plan::parse("after_read=fail").unwrap();

        let error = plan.reach(Point::AfterRead).await.unwrap_err();

        assert!(error.is_transient());
        assert_eq!(error.to_string(), "fail point `after_read`");
    }

    #[tokio::test]
    #[should_panic(expected = "fail point `before_extend`")]
    async fn a_panic_names_its_point() {
        let plan = Plan::parse("before_extend=panic").unwrap();

        _ = plan.reach(Point::BeforeExtend).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_point_is_never_passed() {
        let plan = Plan::parse("after_read=stall").unwrap();

        let reached = plan.reach(Point::AfterRead);

        let hour = Duration::from_hours(1);
        assert!(tokio::time::timeout(hour, reached).await.is_err());
    }

    #[test]
    fn what_the_plan_names_must_be_there() {
        assert!(Plan::parse("").unwrap().rules.is_empty());
        assert!(error("after_lunch=abort").starts_with("there is no point `after_lunch`"));
        assert!(error("after_read=explode").starts_with("there is no action `explode`"));
        assert_eq!(
            error("after_read"),
            "`after_read` is no rule; write `point=action`"
        );
        assert_eq!(
            error("after_read=fail*often"),
            "`*often` is no number from 1 on"
        );
        assert_eq!(error("after_read=fail@0"), "`@0` is no number from 1 on");
    }
}
