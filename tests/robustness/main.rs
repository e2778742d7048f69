//! What damaged files and sudden deaths do to the program: seeded, so that a case can be had again.
//!
//! `cargo test --test robustness` runs a few; `make robustness` all. `KILN_CASES` and `KILN_KILLS` say how many,
//! `KILN_SEED` from where, and `KILN_CASE` runs one case and keeps its files.

mod cases;
mod kills;
mod mutate;
mod process;
#[path = "../cli/support.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod support;

/// The number in an environment variable, or `default`.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |v| v.parse().unwrap())
}
