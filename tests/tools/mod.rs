//! External programs that some tests use: `make test-tools` installs and requires them.

/// Return whether `tool` was found. If not, print that the test is skipped, or fail if `KILN_REQUIRE_<TOOL>` is 1.
pub fn is_here(tool: &str, found: bool) -> bool {
    if !found {
        let variable = format!("KILN_REQUIRE_{}", tool.to_uppercase());
        let is_required = std::env::var(&variable).as_deref() == Ok("1");
        assert!(!is_required, "{variable}=1, and there is no {tool}");
        eprintln!("skipped: no {tool}");
    }
    found
}
