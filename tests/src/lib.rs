//! Black-box harness, suites and benchmarks.
