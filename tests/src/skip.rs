//! Tests that cannot run here say so, where everybody sees it.

use std::io::Write;

/// Tells why the running test is left out. Not captured, unlike what the print macros write.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
}
