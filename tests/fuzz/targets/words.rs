//! Short words of a command line or a config: ids, paths of cgroups, sets of numbers, amounts, signals.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runc_rs::fuzzing::words(data));
