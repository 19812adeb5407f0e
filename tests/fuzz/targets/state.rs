//! `state.json`, and the document that `state` prints of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runc_rs::fuzzing::state(data));
