//! Programs of others that some tests use: `make test-tools` installs them and requires them.

/// Whether `tool` was found, without which a test says that it is skipped; or fails, where `KILN_REQUIRE_<TOOL>` is 1.
pub fn is_here(tool: &str, found: bool) -> bool {
    if !found {
        let variable = format!("KILN_REQUIRE_{}", tool.to_uppercase());
        let is_required = std::env::var(&variable).as_deref() == Ok("1");
        assert!(!is_required, "{variable}=1, and there is no {tool}");
        eprintln!("skipped: no {tool}");
    }
    found
}
