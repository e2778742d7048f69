//! End-to-end tests of the command line: every test runs the `kiln` binary on files that it creates.
//!
//! Without an adapter the tests print "skipped" and pass; `KILN_REQUIRE_GPU=1` turns that into a failure.

mod bad_config;
mod bad_data;
mod bad_runs;
mod depth;
mod documents;
mod evaluate;
mod examples;
mod first_hour;
mod import;
mod inspect;
mod kilonerf;
mod llff;
#[path = "../lpips/recipe.rs"]
mod lpips;
mod manners;
mod masks;
mod meta;
mod nerf;
mod prepare;
mod readme;
mod render;
mod render_outputs;
mod render_path;
mod resume;
mod support;
#[path = "../tools/mod.rs"]
mod tools;
mod train;
mod units;
