//! Properties: what holds for any case.

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngSeed, TestCaseError, TestRunner},
};
use uuid::Uuid;

/// Checks so many cases, others each time unless the seed is given. One that fails is made shorter, and
/// printed with the seed.
pub fn check<S: Strategy>(
    cases: u32,
    strategy: &S,
    check: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let seed = std::env::var("PROPTEST_RNG_SEED").map_or_else(
        |_| u64::from_le_bytes(*Uuid::new_v4().as_bytes().first_chunk().unwrap()),
        |seed| seed.parse().expect("the seed is a number"),
    );
    let mut runner = TestRunner::new(Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    });
    if let Err(error) = runner.run(strategy, check) {
        panic!("with PROPTEST_RNG_SEED={seed}: {error}");
    }
}
