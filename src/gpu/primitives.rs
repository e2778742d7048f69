//! Parallel primitives whose lengths are counts on the device: prefix sum and stable radix sort.

use super::allocator::Allocator;
use super::buffer::Buffer;
use super::counts::{Count, Counts};
use super::error::GpuError;
use super::shader::Defines;
use super::stage::{Groups, Stage};

const SCAN_BLOCK: u32 = 1024;

/// Exclusive prefix sum: `shaders/primitives/scan.wgsl`.
#[derive(Debug, Clone)]
pub struct Scan {
    block_totals: Buffer,
}

impl Scan {
    /// Allocate a scan of up to `capacity` values.
    pub fn new(allocator: &dyn Allocator, label: &str, capacity: u64) -> Result<Self, GpuError> {
        let blocks = capacity.div_ceil(u64::from(SCAN_BLOCK)) + 1;
        Ok(Self {
            block_totals: allocator.buffer(&format!("{label} scan block totals"), blocks * 4)?,
        })
    }

    /// Add: `offsets[i] = values[0] + … + values[i - 1]` for `i` in `0..=n`.
    pub fn run(
        &self,
        stage: &mut Stage,
        counts: &Counts,
        count: Count,
        values: &Buffer,
        offsets: &Buffer,
    ) -> Result<(), GpuError> {
        let bindings = [
            ("counts", &counts.state),
            ("values", values),
            ("offsets", offsets),
            ("block_totals", &self.block_totals),
        ];
        for pass in ["blocks", "totals", "add"] {
            let defines = Defines::new().set("pass", pass).set("count", count.field());
            let groups = if pass == "totals" {
                Groups::Direct([1, 1, 1])
            } else {
                counts.groups(count, SCAN_BLOCK, 1)
            };
            stage.run("primitives/scan", pass, &defines, &bindings, groups)?;
        }
        Ok(())
    }
}

/// Stable radix sort of (key, value) pairs by key, so that equal keys form bins: `shaders/primitives/bin.wgsl`.
#[derive(Debug, Clone)]
pub struct Bin {
    threads: u32,
    other: Buffer,
    histogram: Buffer,
    places: Buffer,
    scan: Scan,
    matrix: Counts,
    entries: Count,
}

const PAIRS_PER_THREAD: u32 = 64;

impl Bin {
    /// Allocate a sort of up to `capacity` pairs. `matrix` is a struct of counts for its exclusive use, and `entries` one of
    /// these counts.
    pub fn new(
        allocator: &dyn Allocator,
        capacity: u32,
        matrix: Counts,
        entries: Count,
    ) -> Result<Self, GpuError> {
        let threads = capacity.div_ceil(PAIRS_PER_THREAD).max(1);
        let n = 16 * threads;
        matrix.set(allocator, entries, n);
        Ok(Self {
            threads,
            other: allocator.buffer("bin pairs", u64::from(capacity) * 8)?,
            histogram: allocator.buffer("bin histogram", u64::from(n) * 4)?,
            places: allocator.buffer("bin places", u64::from(n + 1) * 4)?,
            scan: Scan::new(allocator, "bin", u64::from(n))?,
            matrix,
            entries,
        })
    }

    /// Add: sort `pairs` by the lowest `key_bits` bits of the key, in place.
    pub fn run(
        &self,
        stage: &mut Stage,
        counts: &Counts,
        count: Count,
        pairs: &Buffer,
        key_bits: u32,
    ) -> Result<(), GpuError> {
        self.matrix.publish(stage)?;
        // With an even number of passes, the result ends up in `pairs`.
        let passes = key_bits.div_ceil(4).next_multiple_of(2);
        for pass in 0..passes {
            let (from, to) = if pass % 2 == 0 {
                (pairs, &self.other)
            } else {
                (&self.other, pairs)
            };
            let groups = Groups::covering(u64::from(self.threads), 64);
            let defines = |name: &str| {
                Defines::new()
                    .set("pass", name)
                    .set("count", count.field())
                    .set("shift", 4 * pass)
                    .set("threads", self.threads)
            };
            let bindings = [
                ("counts", &counts.state),
                ("pairs", from),
                ("histogram_out", &self.histogram),
            ];
            stage.run(
                "primitives/bin",
                "histogram",
                &defines("histogram"),
                &bindings,
                groups.clone(),
            )?;
            self.scan.run(
                stage,
                &self.matrix,
                self.entries,
                &self.histogram,
                &self.places,
            )?;
            let bindings = [
                ("counts", &counts.state),
                ("pairs", from),
                ("places", &self.places),
                ("sorted", to),
            ];
            stage.run(
                "primitives/bin",
                "scatter",
                &defines("scatter"),
                &bindings,
                groups,
            )?;
        }
        Ok(())
    }
}
