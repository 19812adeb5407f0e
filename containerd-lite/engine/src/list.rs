//! Lists containers.

use std::sync::Arc;

use crate::engine::Engine;
use crate::record::Record;
use crate::state::Phase;

/// Running containers, or all of them, newest first.
#[must_use]
pub fn list(engine: &Engine, all: bool) -> Vec<Arc<Record>> {
    let mut records: Vec<_> = engine
        .handles()
        .iter()
        .map(crate::supervisor::Handle::record)
        .filter(|record| all || record.phase == Phase::Running)
        .collect();
    records.sort_by(|a, b| {
        b.created_at
            .cmp(&a.created_at)
            .then_with(|| a.id.cmp(&b.id))
    });
    records
}
