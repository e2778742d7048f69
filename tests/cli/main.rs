//! The command line, run as a user runs it: every test starts the `kiln` binary on files it made itself.
//!
//! Without an adapter the tests say "skipped" and pass; `KILN_REQUIRE_GPU=1` turns that into a failure.

mod bad_config;
mod bad_data;
mod bad_runs;
mod documents;
mod evaluate;
mod examples;
mod import;
mod inspect;
mod kilonerf;
mod llff;
#[path = "../lpips/recipe.rs"]
mod lpips;
mod manners;
mod meta;
mod nerf;
mod render;
mod render_outputs;
mod render_path;
mod resume;
mod support;
#[path = "../tools/mod.rs"]
mod tools;
mod train;
mod units;
