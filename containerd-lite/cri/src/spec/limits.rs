//! Limits as the runtime has them.

use serde_json::{Value, json};

use crate::config::Resources;
use crate::host::Host;

/// Runtime-spec `linux.resources` without devices. What is zero or empty is
/// left out.
pub(crate) fn resources(asked: &Resources, host: &Host) -> Value {
    let mut all = json!({});
    let mut set = |path: [&str; 2], value: Value| all[path[0]][path[1]] = value;
    if asked.cpu_shares > 0 {
        set(["cpu", "shares"], json!(asked.cpu_shares));
    }
    if asked.cpu_quota != 0 {
        set(["cpu", "quota"], json!(asked.cpu_quota));
    }
    if asked.cpu_period > 0 {
        set(["cpu", "period"], json!(asked.cpu_period));
    }
    if !asked.cpuset_cpus.is_empty() {
        set(["cpu", "cpus"], json!(asked.cpuset_cpus));
    }
    if !asked.cpuset_mems.is_empty() {
        set(["cpu", "mems"], json!(asked.cpuset_mems));
    }
    if asked.memory != 0 {
        set(["memory", "limit"], json!(asked.memory));
        if host.swap {
            // Nothing said: no swap beside it.
            let swap = match asked.memory_swap {
                0 => asked.memory,
                swap => swap,
            };
            set(["memory", "swap"], json!(swap));
        }
    }
    if !asked.hugepages.is_empty() {
        let limits = asked.hugepages.iter();
        all["hugepageLimits"] = limits
            .map(|(size, limit)| json!({ "pageSize": size, "limit": limit }))
            .collect();
    }
    if host.cgroup2 && !asked.unified.is_empty() {
        all["unified"] = json!(asked.unified);
    }
    all
}

/// What `new` says over `old`; nothing said leaves it.
pub(crate) fn merged(old: &Resources, new: &Resources) -> Resources {
    fn number(old: i64, new: i64) -> i64 {
        if new == 0 { old } else { new }
    }
    fn text(old: &str, new: &str) -> String {
        if new.is_empty() { old } else { new }.to_owned()
    }
    Resources {
        cpu_period: number(old.cpu_period, new.cpu_period),
        cpu_quota: number(old.cpu_quota, new.cpu_quota),
        cpu_shares: number(old.cpu_shares, new.cpu_shares),
        memory: number(old.memory, new.memory),
        memory_swap: number(old.memory_swap, new.memory_swap),
        oom_score_adj: number(old.oom_score_adj, new.oom_score_adj),
        cpuset_cpus: text(&old.cpuset_cpus, &new.cpuset_cpus),
        cpuset_mems: text(&old.cpuset_mems, &new.cpuset_mems),
        hugepages: if new.hugepages.is_empty() {
            old.hugepages.clone()
        } else {
            new.hugepages.clone()
        },
        unified: {
            let mut unified = old.unified.clone();
            unified.extend(new.unified.clone());
            unified
        },
    }
}
