//! Prints what a GPU's Vulkan compiler makes of kiln's kernels, as tables in Markdown, on a machine without that GPU.
//!
//! kiln compiles the texts of each method for the class of discrete GPUs on a software adapter. Then a driver that can make
//! a device without its card compiles them: Mesa's RADV with `RADV_FORCE_FAMILY=navi31`, for instance. `make gpu-static` sets
//! both up. `--checked` adds the run-time checks that wgpu adds by default.

mod driver;
mod texts;

use std::process::ExitCode;

use driver::Driver;

/// The start of the document that the tables make.
const HEADING: &str = "\
# The kernels by AMD's compiler

What Mesa's RADV, AMD's compiler on Linux, makes of the kernels of three methods (training, and rendering a view), without a
card: `make gpu-static` writes this page, and a change of it shows what a change of a kernel costs. Batches are small, which
changes constants only.

VGPRs are registers per thread of 32 bits; LDS (workgroup memory), scratch and code are in bytes; waves per SIMD are those that
the registers and LDS allow. The inverse throughput is the compiler's estimate in cycles a wave; it weights loops by a guess, so
compare only texts of like loops. `×2` stands for two texts with the same figures.
";

fn main() -> ExitCode {
    let has = |flag: &str| std::env::args().skip(1).any(|argument| argument == flag);
    if has("--heading") {
        print!("{HEADING}");
        return ExitCode::SUCCESS;
    }
    let checked = has("--checked");
    match run(checked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpu-static: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(checked: bool) -> Result<(), Box<dyn std::error::Error>> {
    let driver = Driver::open()?;
    let checks = if checked { "with" } else { "without" };
    println!();
    println!("## {}, {checks} run-time checks", driver.name);
    for method in texts::METHODS {
        println!();
        println!("`{method}`:");
        println!();
        println!(
            "| kernel | threads | wave | VGPRs | spilled | scratch | LDS | waves per SIMD | instructions | bytes | inverse throughput |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|");
        // Texts that differ in a constant often compile to the same.
        let mut lines: Vec<(String, usize)> = Vec::new();
        for (label, text) in texts::of(method)? {
            let entry = label.split_once("::").map_or("main", |(_, entry)| entry);
            for columns in driver.statistics(&text, entry, checked)? {
                let line = format!("| `{label}` | {columns} |");
                match lines.iter_mut().find(|(known, _)| *known == line) {
                    Some((_, times)) => *times += 1,
                    None => lines.push((line, 1)),
                }
            }
        }
        for (line, times) in lines {
            println!(
                "{}",
                if times > 1 {
                    line.replacen("` |", &format!("` ×{times} |"), 1)
                } else {
                    line
                }
            );
        }
    }
    Ok(())
}
