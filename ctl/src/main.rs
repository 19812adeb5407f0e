//! The docker-like command line client.

fn main() {}
