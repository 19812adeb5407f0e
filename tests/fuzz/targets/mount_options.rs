//! One entry of `mounts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runc_rs::fuzzing::mount_options(data));
