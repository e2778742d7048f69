#!/bin/sh
# For RUSTC_WORKSPACE_WRAPPER: compile kiln with clippy, whose lints and warnings are errors. Thus testing compiles once what
# `cargo clippy` would check and `cargo test` compile.
exec clippy-driver "$@" -D warnings
