//! The daemon: configuration, composition, API adapters.
