//! `events`: statistics at an interval and out-of-memory kills, one JSON document on a line, in runc's shape.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;

use cgroup::{BlkioEntry, Hugetlb, MemoryEntryV1, OomWatch, Stats, StatsV1, StatsV2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::cli::EventsArgs;
use crate::commands::{Globals, say};
use crate::failure::{Context, Failure, Result};
use crate::rdt::Resctrl;
use crate::state::Status;

pub(super) fn run(globals: &Globals, args: &EventsArgs) -> Result<()> {
    let (place, record) = globals.container(&args.id)?;
    let interval = duration(&args.interval)?;
    if place.status(&record)? == Status::Stopped {
        return Err(Failure::new(format!(
            "container with id {} is not running",
            args.id
        )));
    }
    let cgroup = record.cgroup();
    let show = || -> Result<()> {
        let stats = cgroup.stats().context(|| "read statistics".to_owned())?;
        let mut shape = shape(&stats);
        if let Some((path, monitor)) = record.rdt() {
            let machine =
                Resctrl::find().ok_or_else(|| Failure::new("Intel RDT is not enabled any more"))?;
            shape["intel_rdt"] = machine.stats(path, monitor)?;
        }
        say(&line("stats", &args.id, Some(&shape)))
    };
    if args.stats {
        return show();
    }
    let mut watch = OomWatch::new(&cgroup).context(|| "watch memory".to_owned())?;
    loop {
        let limit = PollTimeout::try_from(interval).unwrap_or(PollTimeout::MAX);
        let ready = poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], limit)
            .context(|| "wait".to_owned())?;
        if place.status(&record)? == Status::Stopped {
            return Ok(());
        }
        if ready == 0 {
            show()?;
        } else if watch.kills() > 0 {
            say(&line("oom", &args.id, None))?;
        }
    }
}

/// One event. Callers match on the order of its fields.
fn line(kind: &str, id: &str, data: Option<&Value>) -> String {
    let data = data.map(|d| format!(",\"data\":{d}")).unwrap_or_default();
    format!(
        "{{\"type\":{},\"id\":{}{data}}}\n",
        Value::from(kind),
        Value::from(id)
    )
}

/// `5s`, `500ms`, `1m`, as Go writes them; more than nothing.
pub(super) fn duration(text: &str) -> Result<Duration> {
    let wrong = || {
        Failure::new(format!(
            "duration interval must be greater than 0, got {text:?}"
        ))
    };
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let millis = number
        .checked_mul(unit)
        .filter(|m| *m > 0)
        .ok_or_else(wrong)?;
    Ok(Duration::from_millis(millis))
}

fn shape(stats: &Stats) -> Value {
    match stats {
        Stats::V1(stats) => v1(stats),
        Stats::V2(stats) => v2(stats),
    }
}

fn v1(s: &StatsV1) -> Value {
    let entry = |e: &MemoryEntryV1| json!({ "limit": e.limit, "usage": e.usage, "max": e.max, "failcnt": e.failcnt });
    let raw: BTreeMap<&str, u64> = s
        .memory
        .stat
        .iter()
        .map(|(k, v)| (k.as_str(), *v))
        .collect();
    let list = |entries: &[BlkioEntry]| -> Vec<Value> {
        entries
            .iter()
            .map(|e| json!({ "major": e.major, "minor": e.minor, "op": e.op, "value": e.value }))
            .collect()
    };
    json!({
        "cpu": {
            "usage": { "total": s.cpu.total, "percpu": s.cpu.per_cpu, "kernel": s.cpu.kernel, "user": s.cpu.user },
            "throttling": {
                "periods": s.cpu.periods,
                "throttledPeriods": s.cpu.throttled_periods,
                "throttledTime": s.cpu.throttled_time
            }
        },
        "cpuset": {},
        "memory": {
            "cache": s.memory.stat("cache"),
            "usage": entry(&s.memory.usage),
            "swap": entry(&s.memory.swap),
            "kernel": entry(&s.memory.kernel),
            "kernelTCP": entry(&s.memory.kernel_tcp),
            "raw": raw
        },
        "pids": { "current": s.pids.current, "limit": s.pids.limit },
        "blkio": {
            "ioServiceBytesRecursive": list(&s.blkio.io_service_bytes_recursive),
            "ioServicedRecursive": list(&s.blkio.io_serviced_recursive),
            "ioQueueRecursive": list(&s.blkio.io_queued_recursive),
            "ioServiceTimeRecursive": list(&s.blkio.io_service_time_recursive),
            "ioWaitTimeRecursive": list(&s.blkio.io_wait_time_recursive),
            "ioMergedRecursive": list(&s.blkio.io_merged_recursive),
            "ioTimeRecursive": list(&s.blkio.io_time_recursive),
            "sectorsRecursive": list(&s.blkio.sectors_recursive)
        },
        "hugetlb": huge(&s.hugetlb),
        "intel_rdt": {}
    })
}

fn v2(s: &StatsV2) -> Value {
    let raw: BTreeMap<&str, u64> = s
        .memory
        .stat
        .iter()
        .map(|(k, v)| (k.as_str(), *v))
        .collect();
    let nanos = |usec: u64| usec.saturating_mul(1000);
    let io = |op: &str, value: fn(&cgroup::IoEntryV2) -> u64| -> Vec<Value> {
        s.io.iter()
            .map(|e| json!({ "major": e.major, "minor": e.minor, "op": op, "value": value(e) }))
            .collect()
    };
    let bytes = [io("Read", |e| e.rbytes), io("Write", |e| e.wbytes)].concat();
    let operations = [io("Read", |e| e.rios), io("Write", |e| e.wios)].concat();
    let swap_limit = s.memory.swap_limit.saturating_add(s.memory.usage_limit);
    let swap_usage = s.memory.swap_usage + s.memory.usage;
    json!({
        "cpu": {
            "usage": { "total": nanos(s.cpu.usage_usec), "kernel": nanos(s.cpu.system_usec), "user": nanos(s.cpu.user_usec) },
            "throttling": {
                "periods": s.cpu.nr_periods,
                "throttledPeriods": s.cpu.nr_throttled,
                "throttledTime": nanos(s.cpu.throttled_usec)
            },
            "psi": s.cpu.pressure
        },
        "cpuset": {},
        "memory": {
            "cache": s.memory.stat("file"),
            "usage": { "limit": s.memory.usage_limit, "usage": s.memory.usage, "max": s.memory.max_usage, "failcnt": s.memory_events.max },
            "swap": {
                "limit": swap_limit,
                "usage": swap_usage,
                "max": s.memory.swap_max_usage,
                "failcnt": 0
            },
            "kernel": { "failcnt": 0 },
            "kernelTCP": { "failcnt": 0 },
            "raw": raw,
            "psi": s.memory.pressure
        },
        "pids": { "current": s.pids.current, "limit": s.pids.limit },
        "blkio": {
            "ioServiceBytesRecursive": bytes,
            "ioServicedRecursive": operations,
            "psi": s.io_pressure
        },
        "hugetlb": huge(&s.hugetlb),
        "intel_rdt": {}
    })
}

fn huge(pages: &[Hugetlb]) -> Value {
    let by_size: BTreeMap<&str, Value> = pages
        .iter()
        .map(|p| {
            (
                p.pagesize.as_str(),
                json!({ "usage": p.usage, "max": p.max, "failcnt": p.failcnt }),
            )
        })
        .collect();
    json!(by_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_its_type_first_and_then_whose_it_is() {
        assert_eq!(line("oom", "a", None), "{\"type\":\"oom\",\"id\":\"a\"}\n");
        let data = json!({"x": 1});
        assert_eq!(
            line("stats", "a", Some(&data)),
            "{\"type\":\"stats\",\"id\":\"a\",\"data\":{\"x\":1}}\n"
        );
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert!(duration("0s").is_err());
        assert!(duration("5").is_err());
    }
}
