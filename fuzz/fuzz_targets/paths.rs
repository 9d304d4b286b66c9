//! Any bytes as a path of a session's files, held to the law that the tests of `taskyard-core` run as well.

#![no_main]

#[path = "../../core/tests/paths/law.rs"]
mod law;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    law::check(&String::from_utf8_lossy(data));
});
