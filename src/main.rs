//! The `kiln` command.

fn main() -> std::process::ExitCode {
    kiln::cli::main(
        #[cfg(feature = "viewer")]
        kiln::viewer::open,
    )
}
