//! Mappings of a user namespace, and what the kernel would be told of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runc_rs::fuzzing::id_maps(data));
