//! What is written down of a container.

use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

use super::Prepared;
use super::group::Made;
use crate::failure::{Failure, Result};
use crate::log::{Precision, rfc3339};
use crate::phrases;
use crate::plan::Choices;
use crate::state::{Record, RecordedConfig, Unit, annotations, process_start};
use crate::validate::NAMESPACES;

/// What is written down of a container in the groups `made` whose first process is `pid`.
pub(crate) fn record(
    choices: Choices<'_>,
    prepared: &Prepared,
    made: &Made,
    pid: i32,
) -> Result<Record> {
    let spec = &prepared.spec;
    let start = process_start(pid)
        .ok_or_else(|| Failure::new(format!("{}: init died", phrases::CANNOT_START)))?;
    let kinds = spec.namespaces.all();
    let namespace_paths: BTreeMap<String, String> = NAMESPACES
        .iter()
        .filter(|(kind, ..)| kinds & kind != 0)
        .map(|(_, name, key)| ((*key).to_owned(), format!("/proc/{pid}/ns/{name}")))
        .collect();
    let mut labels: Vec<String> = annotations(&spec.spec)
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    labels.push(format!("bundle={}", spec.bundle.display()));
    let external_descriptors = (0..3)
        .map(|fd| {
            fs::read_link(format!("/proc/self/fd/{fd}"))
                .map(|p| p.display().to_string())
                .unwrap_or_default()
        })
        .collect();
    Ok(Record {
        id: choices.id.to_owned(),
        init_process_pid: pid,
        init_process_start: start,
        created: rfc3339(SystemTime::now(), Precision::Nanoseconds),
        config: RecordedConfig {
            rootfs: spec.rootfs.clone(),
            hostname: spec.spec.hostname().clone().unwrap_or_default(),
            labels,
            no_pivot_root: choices.no_pivot,
            no_new_keyring: choices.no_new_keyring,
        },
        rootless: kernel::identity::effective_user() != 0,
        cgroup_paths: made.cgroup.dirs().clone(),
        systemd_unit: prepared.scope.as_ref().map(|scope| Unit {
            name: scope.unit().to_owned(),
            user: scope.user(),
        }),
        namespace_paths,
        external_descriptors,
        intel_rdt_path: made
            .rdt
            .as_ref()
            .map(|g| g.path.clone())
            .unwrap_or_default(),
        intel_rdt_mon_path: made.rdt.as_ref().and_then(|g| g.monitor.clone()),
        intel_rdt_own: made.rdt.as_ref().is_some_and(|g| g.own),
        added_mounts: Vec::new(),
        spec: spec.spec.clone(),
    })
}
