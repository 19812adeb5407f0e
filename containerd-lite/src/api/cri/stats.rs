//! What pods and containers use, as the wire has it.

use std::time::SystemTime;

use cri::stats::{ContainerStats, Interface, PodStats};
use lite_core::tasks::ResourceUsage;
use proto::runtime::v1 as wire;

use super::images::filesystem;
use super::{nanos, number};

/// More than this no machine has: the kernel's word for no limit.
const UNLIMITED: u64 = 1 << 60;

/// One container's.
pub(super) fn container(stats: &ContainerStats) -> wire::ContainerStats {
    let record = &stats.record;
    wire::ContainerStats {
        attributes: Some(wire::ContainerAttributes {
            id: record.id.clone(),
            metadata: Some(wire::ContainerMetadata {
                name: record.config.name.clone(),
                attempt: record.config.attempt,
            }),
            labels: record.config.labels.clone().into_iter().collect(),
            annotations: record.config.annotations.clone().into_iter().collect(),
        }),
        cpu: stats
            .usage
            .map(|usage| cpu(stats.at, usage.cpu_ns, stats.nano_cores)),
        memory: stats.usage.map(|usage| memory(stats.at, &usage)),
        writable_layer: Some(filesystem(stats.layer.clone())),
        swap: stats.usage.map(|usage| wire::SwapUsage {
            timestamp: nanos(stats.at),
            swap_available_bytes: None,
            swap_usage_bytes: number(usage.swap),
        }),
        io: None,
    }
}

fn cpu(at: SystemTime, used: u64, nano_cores: u64) -> wire::CpuUsage {
    wire::CpuUsage {
        timestamp: nanos(at),
        usage_core_nano_seconds: number(used),
        usage_nano_cores: number(nano_cores),
        psi: None,
    }
}

fn memory(at: SystemTime, usage: &ResourceUsage) -> wire::MemoryUsage {
    let limit = Some(usage.memory_limit).filter(|limit| (1..UNLIMITED).contains(limit));
    wire::MemoryUsage {
        timestamp: nanos(at),
        working_set_bytes: number(usage.memory),
        available_bytes: limit.and_then(|limit| number(limit.saturating_sub(usage.memory))),
        usage_bytes: number(usage.memory_total),
        rss_bytes: number(usage.rss),
        page_faults: number(usage.faults),
        major_page_faults: number(usage.major_faults),
        psi: None,
    }
}

/// One pod's: the sums of its containers.
pub(super) fn pod(stats: &PodStats) -> wire::PodSandboxStats {
    let (record, at) = (&stats.record, stats.at);
    let metadata = &record.config.metadata;
    let used = || stats.containers.iter().filter_map(|one| one.usage);
    let sum = used().fold(ResourceUsage::default(), |sum, one| ResourceUsage {
        cpu_ns: sum.cpu_ns + one.cpu_ns,
        memory: sum.memory + one.memory,
        memory_total: sum.memory_total + one.memory_total,
        rss: sum.rss + one.rss,
        faults: sum.faults + one.faults,
        major_faults: sum.major_faults + one.major_faults,
        pids: sum.pids + one.pids,
        ..sum
    });
    let nano_cores = stats.containers.iter().map(|one| one.nano_cores).sum();
    let all: Vec<_> = stats.interfaces.iter().map(interface).collect();
    wire::PodSandboxStats {
        attributes: Some(wire::PodSandboxAttributes {
            id: record.id.clone(),
            metadata: Some(wire::PodSandboxMetadata {
                name: metadata.name.clone(),
                uid: metadata.uid.clone(),
                namespace: metadata.namespace.clone(),
                attempt: metadata.attempt,
            }),
            labels: record.config.labels.clone().into_iter().collect(),
            annotations: record.config.annotations.clone().into_iter().collect(),
        }),
        linux: Some(wire::LinuxPodSandboxStats {
            cpu: Some(cpu(at, sum.cpu_ns, nano_cores)),
            memory: Some(memory(at, &sum)),
            network: Some(wire::NetworkUsage {
                timestamp: nanos(at),
                default_interface: all.first().cloned(),
                interfaces: all.into_iter().skip(1).collect(),
            }),
            process: Some(wire::ProcessUsage {
                timestamp: nanos(at),
                process_count: number(sum.pids),
            }),
            containers: stats.containers.iter().map(container).collect(),
            io: None,
        }),
    }
}

fn interface(interface: &Interface) -> wire::NetworkInterfaceUsage {
    wire::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: number(interface.rx_bytes),
        rx_errors: number(interface.rx_errors),
        tx_bytes: number(interface.tx_bytes),
        tx_errors: number(interface.tx_errors),
    }
}
