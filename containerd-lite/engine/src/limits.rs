//! A container's limits: checked against what the host can do, and written as
//! runtime-spec `linux.resources` and `process.rlimits`. No I/O: what the host
//! is like is handed in.

use lite_core::{Kind, Result};
use serde_json::{Value, json};

use crate::host_config::Resources;

/// Less memory than this no container can start with.
const LEAST_MEMORY: i64 = 6 << 20;

/// Microseconds of a period of `--cpus`.
const PERIOD: i64 = 100_000;

/// What of the host limits depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Processors.
    pub cpus: usize,
    /// The kernel counts swap.
    pub swap: bool,
}

/// Checks what was asked for and returns what the user should know.
///
/// # Errors
/// InvalidArgument, in Docker's words.
pub fn check(resources: &Resources, capacity: Capacity) -> Result<Vec<String>> {
    let invalid = |text: &str| Err(Kind::InvalidArgument.error(text));
    let memory = resources.memory.unwrap_or(0);
    let swap = resources.memory_swap.unwrap_or(0);
    if memory != 0 && memory < LEAST_MEMORY {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if swap > 0 && memory == 0 {
        return invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if swap > 0 && swap < memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if let Some(reservation) = resources.memory_reservation.filter(|bytes| *bytes > 0) {
        if reservation < LEAST_MEMORY {
            return invalid("Minimum memory reservation allowed is 6MB");
        }
        if memory > 0 && memory < reservation {
            return invalid(
                "Minimum memory limit can not be less than memory reservation limit, see usage",
            );
        }
    }
    if let Some(swappiness) = resources.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return Err(Kind::InvalidArgument.error(format!(
            "invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )));
    }
    check_cpu(resources, capacity.cpus)?;
    if let Some(weight) = resources.blkio_weight.filter(|weight| *weight > 0)
        && !(10..=1000).contains(&weight)
    {
        return invalid("Range of blkio weight is from 10 to 1000");
    }
    rlimits(&resources.ulimits)?;
    let mut warnings = Vec::new();
    if memory > 0 && !capacity.swap {
        warnings.push(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
                .to_owned(),
        );
    }
    Ok(warnings)
}

fn check_cpu(resources: &Resources, cpus: usize) -> Result<()> {
    let invalid = |text: String| Err(Kind::InvalidArgument.error(text));
    if let Some(nano) = resources.nano_cpus.filter(|nano| *nano != 0) {
        if resources.cpu_period.is_some_and(|period| period > 0) {
            return invalid(
                "Conflicting options: Nano CPUs and CPU Period cannot both be set.".into(),
            );
        }
        if resources.cpu_quota.is_some_and(|quota| quota > 0) {
            return invalid(
                "Conflicting options: Nano CPUs and CPU Quota cannot both be set.".into(),
            );
        }
        let most = i64::try_from(cpus)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000_000);
        if nano < 10_000_000 || nano > most {
            return invalid(format!(
                "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            ));
        }
    }
    if let Some(period) = resources.cpu_period.filter(|period| *period != 0)
        && !(1000..=1_000_000).contains(&period)
    {
        return invalid(
            "CPU cfs period cannot be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
                .into(),
        );
    }
    if resources
        .cpu_quota
        .is_some_and(|quota| quota > 0 && quota < 1000)
    {
        return invalid("CPU cfs quota cannot be less than 1ms (i.e. 1000)".into());
    }
    if resources.cpu_shares.is_some_and(|shares| shares < 0) {
        return invalid("shares can not be negative".into());
    }
    if let Some(wanted) = &resources.cpuset_cpus
        && !wanted.is_empty()
    {
        match highest(wanted) {
            Some(number) if number < cpus => {}
            Some(_) => {
                return invalid(format!(
                    "Requested CPUs are not available - requested {wanted}, available: 0-{}",
                    cpus.saturating_sub(1)
                ));
            }
            None => return invalid(format!("Invalid value {wanted} for cpuset cpus")),
        }
    }
    Ok(())
}

/// The highest number of a list such as `0-3,5`.
fn highest(list: &str) -> Option<usize> {
    let mut highest = None;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last < first {
            return None;
        }
        highest = highest.max(Some(last));
    }
    highest
}

/// Limits as runtime-spec `linux.resources`, without device rules.
#[must_use]
pub fn resources(resources: &Resources, capacity: Capacity) -> Value {
    let mut object = json!({});
    let memory = memory(resources, capacity);
    if memory.as_object().is_some_and(|fields| !fields.is_empty()) {
        object["memory"] = memory;
    }
    let cpu = cpu(resources);
    if cpu.as_object().is_some_and(|fields| !fields.is_empty()) {
        object["cpu"] = cpu;
    }
    if let Some(pids) = resources.pids.filter(|pids| *pids != 0) {
        object["pids"] = json!({ "limit": pids.max(-1) });
    }
    if let Some(weight) = resources.blkio_weight.filter(|weight| *weight > 0) {
        object["blockIO"] = json!({ "weight": weight });
    }
    object
}

fn memory(resources: &Resources, capacity: Capacity) -> Value {
    let mut object = json!({});
    let above_zero = |limit: Option<i64>| limit.filter(|bytes| *bytes > 0);
    if let Some(bytes) = above_zero(resources.memory) {
        object["limit"] = json!(bytes);
    }
    if let Some(bytes) = above_zero(resources.memory_reservation) {
        object["reservation"] = json!(bytes);
    }
    if let Some(swap) = swap_limit(resources).filter(|_| capacity.swap) {
        object["swap"] = json!(swap);
    }
    if let Some(swappiness) = resources.memory_swappiness.filter(|value| *value >= 0) {
        object["swappiness"] = json!(swappiness);
    }
    if let Some(true) = resources.oom_kill_disable {
        object["disableOOMKiller"] = json!(true);
    }
    object
}

/// Memory and swap together: what was asked for, else twice the memory.
#[must_use]
pub fn swap_limit(resources: &Resources) -> Option<i64> {
    match (resources.memory, resources.memory_swap) {
        (_, Some(swap)) if swap != 0 => Some(swap),
        (Some(memory), _) if memory > 0 => Some(memory.saturating_mul(2)),
        _ => None,
    }
}

fn cpu(resources: &Resources) -> Value {
    let mut object = json!({});
    let not_zero = |value: Option<i64>| value.filter(|value| *value != 0);
    let numbers = [
        ("shares", resources.cpu_shares),
        ("period", resources.cpu_period),
        ("quota", resources.cpu_quota),
        ("realtimePeriod", resources.rt_period),
        ("realtimeRuntime", resources.rt_runtime),
    ];
    for (name, value) in numbers {
        if let Some(value) = not_zero(value) {
            object[name] = json!(value);
        }
    }
    if let Some(nano) = not_zero(resources.nano_cpus) {
        object["period"] = json!(PERIOD);
        object["quota"] = json!(nano.saturating_mul(PERIOD) / 1_000_000_000);
    }
    let lists = [
        ("cpus", &resources.cpuset_cpus),
        ("mems", &resources.cpuset_mems),
    ];
    for (name, value) in lists {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            object[name] = json!(value);
        }
    }
    object
}

/// The names of `--ulimit`, as Docker knows them: `getrlimit(2)`.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `--ulimit` as runtime-spec `process.rlimits`.
///
/// # Errors
/// InvalidArgument, in Docker's words.
pub fn rlimits(typed: &[String]) -> Result<Vec<Value>> {
    let mut limits: Vec<Value> = Vec::new();
    for text in typed {
        let (name, soft, hard) = rlimit(text)?;
        let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
        // A later one of the same name wins.
        limits.retain(|limit| limit["type"] != kind);
        limits.push(json!({ "type": kind, "soft": soft, "hard": hard }));
    }
    Ok(limits)
}

/// Name, soft and hard limit of one `--ulimit`.
///
/// # Errors
/// InvalidArgument, in Docker's words.
pub fn rlimit(text: &str) -> Result<(&str, u64, u64)> {
    let bad = |why: String| Kind::InvalidArgument.error(why);
    let (name, values) = text
        .split_once('=')
        .ok_or_else(|| bad(format!("invalid ulimit argument: {text}")))?;
    if !ULIMITS.contains(&name) {
        return Err(bad(format!("invalid ulimit type: {name}")));
    }
    let number = |text: &str| match text {
        "-1" => Ok(u64::MAX),
        text => text
            .parse::<u64>()
            .map_err(|_| bad(format!("invalid ulimit value {text:?}: expected a number"))),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(bad(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    Ok((name, soft, hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Capacity = Capacity {
        cpus: 2,
        swap: true,
    };

    #[track_caller]
    fn refused(change: impl FnOnce(&mut Resources), words: &str) {
        let mut asked = Resources::default();
        change(&mut asked);
        let said = check(&asked, HOST).unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn what_cannot_be_is_refused_in_dockers_words() {
        refused(
            |r| r.memory = Some(1024),
            "Minimum memory limit allowed is 6MB",
        );
        refused(
            |r| r.memory_swap = Some(1 << 30),
            "always set the Memory limit",
        );
        refused(|r| r.nano_cpus = Some(3_000_000_000), "from 0.01 to 2.00");
        refused(|r| r.cpuset_cpus = Some("0-7".into()), "available: 0-1");
        refused(|r| r.cpu_period = Some(1), "cfs period");
        refused(
            |r| r.ulimits = vec!["bogus=1".into()],
            "invalid ulimit type: bogus",
        );
        refused(
            |r| r.ulimits = vec!["nofile=9:1".into()],
            "soft limit must be less",
        );
        refused(|r| r.blkio_weight = Some(5), "blkio weight");
    }

    #[test]
    fn limits_become_the_runtimes() {
        let asked = Resources {
            memory: Some(64 << 20),
            nano_cpus: Some(500_000_000),
            pids: Some(10),
            cpuset_cpus: Some("0".into()),
            ..Resources::default()
        };
        assert_eq!(check(&asked, HOST).unwrap(), Vec::<String>::new());
        assert_eq!(
            resources(&asked, HOST),
            json!({
                "memory": { "limit": 64 << 20, "swap": 128 << 20 },
                "cpu": { "period": 100_000, "quota": 50_000, "cpus": "0" },
                "pids": { "limit": 10 },
            })
        );
        assert_eq!(resources(&Resources::default(), HOST), json!({}));
    }

    #[test]
    fn without_swap_accounting_memory_is_limited_alone_and_told() {
        let host = Capacity {
            swap: false,
            ..HOST
        };
        let asked = Resources {
            memory: Some(64 << 20),
            ..Resources::default()
        };
        assert_eq!(check(&asked, host).unwrap().len(), 1);
        assert_eq!(
            resources(&asked, host),
            json!({ "memory": { "limit": 64 << 20 } })
        );
    }

    #[test]
    fn a_later_ulimit_of_the_same_name_wins() {
        let limits =
            rlimits(&["nofile=1:2".into(), "nproc=7".into(), "nofile=3:-1".into()]).unwrap();
        assert_eq!(
            limits,
            [
                json!({ "type": "RLIMIT_NPROC", "soft": 7, "hard": 7 }),
                json!({ "type": "RLIMIT_NOFILE", "soft": 3, "hard": u64::MAX }),
            ]
        );
    }
}
