//! A program of the image, looked at before it is run.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runc_rs::fuzzing::program(data));
