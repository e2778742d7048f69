//! Every GPU stage against its CPU reference. There is one process, one device of each kind, and one test at a time.
//!
//! Without an adapter the tests print "skipped" and pass; `KILN_REQUIRE_GPU=1` turns that into a failure.

mod binned;
mod camera;
mod compaction;
mod compositing;
mod crop;
mod direction;
mod distillation;
mod field;
mod frequency;
mod fused;
mod hash_grid;
mod importance;
mod noise;
mod occupancy;
mod optimizer;
mod primitives;
mod reference;
mod reptile;
mod sampling;
mod screen;
mod support;
mod tiled;
mod torch;
mod train;
