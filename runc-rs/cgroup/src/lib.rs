//! Cgroups v1, v2 and hybrid: limits, statistics, out-of-memory events.
