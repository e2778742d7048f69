//! Damaged files and killed processes: seeded, so that every case can be reproduced.
//!
//! `cargo test --test robustness` runs a few, `make robustness` all. `KILN_CASES` and `KILN_KILLS` set their numbers,
//! `KILN_SEED` sets the first seed, and `KILN_CASE` runs one case and keeps its files.

mod cases;
mod kills;
mod mutate;
mod process;
#[path = "../cli/support.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod support;

/// Return the number in an environment variable, or `default`.
fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |v| v.parse().unwrap())
}
