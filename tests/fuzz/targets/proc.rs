//! What the kernel shows in /proc and cgroup files: names in it are the container's.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| runc_rs::fuzzing::proc(data));
