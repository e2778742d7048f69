//! Prints what a GPU's Vulkan compiler makes of kiln's kernels, as tables in Markdown, on a machine without that GPU.
//!
//! kiln compiles the texts of each method for the class of discrete GPUs on a software adapter. Then a driver that can make
//! a device without its card compiles them: Mesa's RADV with `RADV_FORCE_FAMILY=navi31`, for instance. `make gpu-static` sets
//! both up. `--checked` adds the run-time checks that wgpu adds by default.

mod driver;
mod texts;

use std::process::ExitCode;

use driver::Driver;

fn main() -> ExitCode {
    let checked = std::env::args().skip(1).any(|argument| argument == "--checked");
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
    println!("### {} ({checks} run-time checks)", driver.name);
    for method in texts::METHODS {
        println!();
        println!("`{method}`:");
        println!();
        println!(
            "| kernel | threads | wave | VGPRs | SGPRs | spilled | scratch | LDS | waves per SIMD | instructions | bytes | inverse throughput |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
        for (label, text) in texts::of(method)? {
            let entry = label.split_once("::").map_or("main", |(_, entry)| entry);
            for line in driver.statistics(&text, entry, checked)? {
                println!("| `{label}` | {line} |");
            }
        }
    }
    Ok(())
}
