//! What containers and pods use.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use lite_core::tasks::ResourceUsage;
use lite_core::{Kind, OVERLAYFS, Result, chain};
use network::netns;

use crate::containers::{self, ContainerFilter};
use crate::hub::Cri;
use crate::images::FilesystemUsage;
use crate::namespaces::Place;
use crate::pods::{self, PodFilter};
use crate::record::{ContainerRecord, ContainerState, PodRecord, PodState};

/// What one container uses.
#[derive(Debug, Clone)]
pub struct ContainerStats {
    /// Whose it is.
    pub record: Arc<ContainerRecord>,
    /// When it was measured.
    pub at: SystemTime,
    /// What its cgroup says; `None`: it does not run.
    pub usage: Option<ResourceUsage>,
    /// Nanoseconds of processor time a second, since it was last measured.
    pub nano_cores: u64,
    /// What it has written.
    pub layer: FilesystemUsage,
}

/// What one pod uses.
#[derive(Debug, Clone)]
pub struct PodStats {
    /// Whose it is.
    pub record: Arc<PodRecord>,
    /// When it was measured.
    pub at: SystemTime,
    /// Of its containers.
    pub containers: Vec<ContainerStats>,
    /// Of its interfaces, but for loopback; empty on the host's network.
    pub interfaces: Vec<Interface>,
}

/// What went through an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the pod.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Errors at that.
    pub rx_errors: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Errors at that.
    pub tx_errors: u64,
}

/// Processor time as last seen, by container.
#[derive(Default)]
pub(crate) struct Rates(Mutex<HashMap<String, (Instant, u64, u64)>>);

impl Rates {
    /// The rate since the last look at `id`, which has used `cpu_ns` by now.
    fn since_last(&self, id: &str, cpu_ns: u64) -> u64 {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = match all.get(id) {
            None => 0,
            Some((at, before, rate)) => {
                let passed = now.duration_since(*at).as_nanos();
                // Two looks at nearly the same time say nothing new.
                if passed < 100_000_000 {
                    return *rate;
                }
                let used = u128::from(cpu_ns.saturating_sub(*before));
                u64::try_from(used * 1_000_000_000 / passed).unwrap_or(u64::MAX)
            }
        };
        all.insert(id.to_owned(), (now, cpu_ns, rate));
        rate
    }

    /// Forgets containers that are not in `known`.
    fn keep(&self, known: &[Arc<ContainerRecord>]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() > 2 * known.len() {
            all.retain(|id, _| known.iter().any(|record| record.id == *id));
        }
    }
}

/// What the container `id` uses.
///
/// # Errors
/// NotFound.
pub async fn of_container(cri: &Cri, id: &str) -> Result<ContainerStats> {
    Ok(measure(cri, cri.container(id)?).await)
}

/// What the containers use that `filter` accepts.
pub async fn of_containers(cri: &Cri, filter: &ContainerFilter) -> Vec<ContainerStats> {
    let records = containers::list(cri, filter);
    cri.rates().keep(&cri.containers());
    let measuring = records.into_iter().map(|record| measure(cri, record));
    futures_util::future::join_all(measuring).await
}

/// What the pod `id` uses.
///
/// # Errors
/// NotFound.
pub async fn of_pod(cri: &Cri, id: &str) -> Result<PodStats> {
    Ok(measure_pod(cri, cri.pod(id)?).await)
}

/// What the pods use that `filter` accepts and that are ready.
pub async fn of_pods(cri: &Cri, filter: &PodFilter) -> Vec<PodStats> {
    let filter = PodFilter {
        ready: Some(true),
        ..filter.clone()
    };
    let measuring = pods::list(cri, &filter)
        .into_iter()
        .map(|record| measure_pod(cri, record));
    futures_util::future::join_all(measuring).await
}

async fn measure(cri: &Cri, record: Arc<ContainerRecord>) -> ContainerStats {
    let usage = match record.state {
        ContainerState::Running => {
            let usage = cri.core().tasks.usage(cri.ns(), &record.id).await;
            let told = usage.inspect_err(|err| {
                // It may have ended just now.
                tracing::debug!(container = record.id, error = %chain(err), "measure a container");
            });
            told.ok()
        }
        ContainerState::Created | ContainerState::Exited => None,
    };
    let nano_cores = usage.map_or(0, |usage| cri.rates().since_last(&record.id, usage.cpu_ns));
    ContainerStats {
        layer: layer(cri, &record.id).await,
        record,
        at: SystemTime::now(),
        usage,
        nano_cores,
    }
}

async fn layer(cri: &Cri, id: &str) -> FilesystemUsage {
    let dir = cri.core().config.root.join("snapshots");
    let measured = {
        let (cri, id) = (cri.clone(), id.to_owned());
        lite_core::blocking(move || cri.core().snapshots.usage(cri.ns(), OVERLAYFS, &id)).await
    };
    let usage = measured.unwrap_or_default();
    FilesystemUsage {
        at: SystemTime::now(),
        dir,
        bytes: usage.size,
        inodes: usage.inodes,
    }
}

async fn measure_pod(cri: &Cri, record: Arc<PodRecord>) -> PodStats {
    let filter = ContainerFilter {
        pod: record.id.clone(),
        state: Some(ContainerState::Running),
        ..ContainerFilter::default()
    };
    let containers = of_containers(cri, &filter).await;
    let interfaces = if record.on_host_network() || record.state != PodState::Ready {
        Vec::new()
    } else {
        let path = Place::at(cri.pod_dir(&record.id)).namespace("net");
        let read = lite_core::blocking(move || {
            let table = netns::open(&path).and_then(|namespace| {
                netns::inside(namespace.as_fd(), || {
                    std::fs::read_to_string("/proc/thread-self/net/dev")
                })
            });
            table.map_err(|err| {
                Kind::Unknown
                    .error("read the pod's interfaces")
                    .because(err)
            })
        });
        match read.await {
            Ok(table) => interfaces(&table),
            Err(err) => {
                tracing::debug!(pod = record.id, error = %chain(&err), "measure a pod");
                Vec::new()
            }
        }
    };
    PodStats {
        record,
        at: SystemTime::now(),
        containers,
        interfaces,
    }
}

/// Reads `/proc/net/dev`, but for loopback.
fn interfaces(table: &str) -> Vec<Interface> {
    let lines = table.lines().skip(2);
    lines
        .filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            let numbers: Vec<u64> = numbers
                .split_whitespace()
                .filter_map(|number| number.parse().ok())
                .collect();
            Some(Interface {
                name: name.trim().to_owned(),
                rx_bytes: *numbers.first()?,
                rx_errors: *numbers.get(2)?,
                tx_bytes: *numbers.get(8)?,
                tx_errors: *numbers.get(10)?,
            })
        })
        .filter(|interface| interface.name != "lo")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_off_the_kernels_table() {
        let table = "Inter-|   Receive |  Transmit\n face |bytes packets errs\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  eth0: 101 2 3 4 5 6 7 8 109 10 11 12 13 14 15 16\n";
        let wanted = Interface {
            name: "eth0".to_owned(),
            rx_bytes: 101,
            rx_errors: 3,
            tx_bytes: 109,
            tx_errors: 11,
        };
        assert_eq!(interfaces(table), [wanted]);
    }
}
