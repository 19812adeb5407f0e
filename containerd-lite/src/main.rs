//! The daemon: configuration, composition, API adapters.

fn main() {}
