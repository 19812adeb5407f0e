//! `config.json`: parsed, checked, planned, and the plan printed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runc_rs::fuzzing::config(data));
