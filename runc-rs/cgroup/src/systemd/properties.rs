//! Limits and device rules of a config as properties of a unit (`systemd.resource-control(5)`). Pure, but for the names of
//! device drivers.

use oci_spec::runtime::{LinuxCpu, LinuxResources};

use crate::dbus::Value;
use crate::devices::{self, Rule};
use crate::limits::{DEFAULT_PERIOD, cpu_weight, swap_alone};
use crate::{Error, Layout, Result};

type Properties = Vec<(String, Value)>;

/// Hundredths of a processor, in microseconds a second: systemd keeps quotas in percent.
const PERCENT: u64 = 10_000;

fn own(name: &str, value: Value) -> (String, Value) {
    (name.to_owned(), value)
}

/// A number of the config, where below 0 is no limit; systemd says infinity with all bits.
fn or_infinity(value: i64) -> Value {
    Value::U64(u64::try_from(value).unwrap_or(u64::MAX))
}

/// The resources with a CPU quota of whole percents, rounded up, so that systemd and the control file agree.
#[must_use]
pub fn rounded(resources: &LinuxResources) -> LinuxResources {
    let mut resources = resources.clone();
    if let Some(mut cpu) = resources.cpu().clone()
        && let Some(quota) = cpu
            .quota()
            .and_then(|q| u64::try_from(q).ok())
            .filter(|q| *q > 0)
    {
        let period = period(&cpu);
        let quota = per_second(quota, period).saturating_mul(period) / 1_000_000;
        cpu.set_quota(Some(i64::try_from(quota).unwrap_or(i64::MAX)));
        resources.set_cpu(Some(cpu));
    }
    resources
}

fn period(cpu: &LinuxCpu) -> u64 {
    cpu.period().filter(|p| *p != 0).unwrap_or(DEFAULT_PERIOD)
}

fn per_second(quota: u64, period: u64) -> u64 {
    (quota.saturating_mul(1_000_000) / period).next_multiple_of(PERCENT)
}

/// Whether [`limits`] or [`oom_policy`] come out differently for versions of systemd.
pub(super) fn depends_on_version(resources: &LinuxResources) -> bool {
    let unified = |file: &str| {
        resources
            .unified()
            .as_ref()
            .is_some_and(|u| u.contains_key(file))
    };
    resources.cpu().as_ref().and_then(LinuxCpu::idle) == Some(1)
        || unified("cpu.idle")
        || unified("memory.oom.group")
}

/// `memory.oom.group`, which a unit has from its start on or never.
pub(super) fn oom_policy(resources: &LinuxResources) -> Option<&'static str> {
    match resources
        .unified()
        .as_ref()?
        .get("memory.oom.group")?
        .trim()
    {
        "0" => Some("continue"),
        "1" => Some("kill"),
        _ => None,
    }
}

/// What systemd has a property for; the rest is written to the group's files alone.
pub(super) fn limits(resources: &LinuxResources, layout: Layout, idle: bool) -> Result<Properties> {
    let v2 = layout == Layout::V2;
    let mut out = Properties::new();
    if let Some(memory) = resources.memory() {
        let some = |v: Option<i64>| v.filter(|v| *v != 0);
        let limit = if v2 { "MemoryMax" } else { "MemoryLimit" };
        out.extend(some(memory.limit()).map(|v| own(limit, or_infinity(v))));
        if v2 {
            out.extend(some(memory.reservation()).map(|v| own("MemoryLow", or_infinity(v))));
            let swap = swap_alone(memory.limit().unwrap_or(0), memory.swap().unwrap_or(0))?;
            out.extend(swap.map(|v| own("MemorySwapMax", or_infinity(v))));
        }
    }
    if let Some(cpu) = resources.cpu() {
        processors(cpu, v2, idle, &mut out)?;
    }
    if let (false, Some(io)) = (v2, resources.block_io()) {
        out.extend(
            io.weight()
                .filter(|w| *w != 0)
                .map(|w| own("BlockIOWeight", Value::U64(w.into()))),
        );
    }
    out.extend(resources.pids().as_ref().map(|p| {
        let limit = if p.limit() == 0 { 1 } else { p.limit() };
        own("TasksMax", or_infinity(limit))
    }));
    if v2 {
        unified(resources, idle, &mut out)?;
    }
    Ok(out)
}

fn processors(cpu: &LinuxCpu, v2: bool, idle: bool, out: &mut Properties) -> Result<()> {
    let shares = cpu.shares().filter(|s| *s != 0);
    if v2 && idle && cpu.idle() == Some(1) {
        out.push(own("CPUWeight", Value::U64(0)));
    } else if v2 {
        out.extend(shares.map(|s| own("CPUWeight", Value::U64(cpu_weight(s)))));
    } else {
        out.extend(shares.map(|s| own("CPUShares", Value::U64(s))));
    }
    let given = cpu.period().filter(|p| *p != 0);
    quota(cpu.quota().unwrap_or(0), given, out);
    for (name, text) in [
        ("AllowedCPUs", cpu.cpus()),
        ("AllowedMemoryNodes", cpu.mems()),
    ] {
        if let Some(text) = text.as_deref().filter(|t| !t.is_empty()) {
            out.push(own(name, bits(text)?));
        }
    }
    Ok(())
}

fn quota(quota: i64, period: Option<u64>, out: &mut Properties) {
    out.extend(period.map(|p| own("CPUQuotaPeriodUSec", Value::U64(p))));
    if quota == 0 && period.is_none() {
        return;
    }
    let usec = match u64::try_from(quota) {
        Ok(quota) if quota > 0 => per_second(quota, period.unwrap_or(DEFAULT_PERIOD)),
        _ => u64::MAX,
    };
    out.push(own("CPUQuotaPerSecUSec", Value::U64(usec)));
}

/// Files of `unified` that systemd has a property for.
fn unified(resources: &LinuxResources, idle: bool, out: &mut Properties) -> Result<()> {
    let mut files: Vec<_> = resources.unified().iter().flatten().collect();
    files.sort();
    let idle = idle
        && files
            .iter()
            .any(|(f, v)| *f == "cpu.idle" && v.trim() == "1");
    for (file, value) in files {
        let value = value.trim();
        let wrong = || {
            Error::refused(format!(
                "unified resource {file:?} value conversion error: {value:?}"
            ))
        };
        let number = || match value {
            "max" => Ok(u64::MAX),
            digits => digits.parse().map_err(|_| wrong()),
        };
        match file.as_str() {
            "cpu.idle" if idle => out.push(own("CPUWeight", Value::U64(0))),
            "cpu.weight" if !idle => out.push(own("CPUWeight", Value::U64(number()?))),
            "cpu.max" => {
                let mut words = value.split_whitespace();
                let limit = match words.next() {
                    Some("max") => 0,
                    Some(digits) => digits.parse().map_err(|_| wrong())?,
                    None => return Err(wrong()),
                };
                let period = words.next().map_or(Ok(DEFAULT_PERIOD), str::parse);
                quota(limit, Some(period.map_err(|_| wrong())?), out);
            }
            "cpuset.cpus" => out.push(own("AllowedCPUs", bits(value)?)),
            "cpuset.mems" => out.push(own("AllowedMemoryNodes", bits(value)?)),
            "memory.min" => out.push(own("MemoryMin", Value::U64(number()?))),
            "memory.low" => out.push(own("MemoryLow", Value::U64(number()?))),
            "memory.high" => out.push(own("MemoryHigh", Value::U64(number()?))),
            "memory.max" => out.push(own("MemoryMax", Value::U64(number()?))),
            "memory.swap.max" => out.push(own("MemorySwapMax", Value::U64(number()?))),
            "pids.max" => out.push(own("TasksMax", Value::U64(number()?.max(1)))),
            _ => {}
        }
    }
    Ok(())
}

/// A list as in `0-3,7` as bytes with a bit for each number, the lowest first.
fn bits(list: &str) -> Result<Value> {
    let wrong = || Error::refused(format!("expected a list as in 0-3,7, got {list:?}"));
    // As many processors as Linux can be built for.
    let number = |text: &str| {
        let number = text.trim().parse::<usize>().ok();
        number.filter(|n| *n < 8192).ok_or_else(wrong)
    };
    let mut bytes: Vec<u8> = Vec::new();
    for range in list.split(',').map(str::trim).filter(|r| !r.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        for n in first..=last {
            if bytes.len() <= n / 8 {
                bytes.resize(n / 8 + 1, 0);
            }
            bytes[n / 8] |= 1 << (n % 8);
        }
    }
    if bytes.is_empty() {
        return Err(wrong());
    }
    let bytes = bytes.into_iter().map(Value::Byte).collect();
    Ok(Value::Array("y".to_owned(), bytes))
}

/// Device rules, which systemd attaches as a program of its own; without them it would allow everything again when it reloads.
pub(super) fn devices(resources: &LinuxResources) -> Result<Properties> {
    let rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
    let drivers = std::fs::read_to_string("/proc/devices").unwrap_or_default();
    let allowed = allow_list(&rules);
    let pair = |(node, access): (String, String)| {
        Value::Struct(vec![Value::text(node), Value::text(access)])
    };
    let (policy, nodes) = match allowed {
        None => ("auto", Vec::new()),
        Some(list) => (
            "strict",
            list.iter()
                .filter_map(|rule| node(rule, &drivers))
                .map(pair)
                .collect(),
        ),
    };
    Ok(vec![
        own("DevicePolicy", Value::text(policy)),
        own("DeviceAllow", Value::Array("(ss)".to_owned(), nodes)),
    ])
}

/// What the rules allow in the end, or `None` for everything. systemd has no rules that deny.
fn allow_list(rules: &[Rule]) -> Option<Vec<Rule>> {
    let mut list: Option<Vec<Rule>> = None;
    for rule in rules {
        let everything = rule.kind == 'a' && rule.major.is_none() && rule.minor.is_none();
        if everything {
            list = (!rule.allow).then(Vec::new);
            continue;
        }
        let Some(list) = &mut list else { continue };
        let kinds: &[char] = match rule.kind {
            'a' => &['b', 'c'],
            'b' => &['b'],
            _ => &['c'],
        };
        for kind in kinds {
            let same = |other: &Rule| {
                (other.kind, other.major, other.minor) == (*kind, rule.major, rule.minor)
            };
            if rule.allow {
                list.push(Rule {
                    kind: *kind,
                    ..rule.clone()
                });
            } else {
                for other in list.iter_mut().filter(|other| same(other)) {
                    other.access.retain(|c| !rule.access.contains(c));
                }
                list.retain(|other| !other.access.is_empty());
            }
        }
    }
    list
}

/// systemd's name for the devices of a rule: a node by its numbers, a driver by its name, or every one of its kind.
fn node(rule: &Rule, drivers: &str) -> Option<(String, String)> {
    let (word, title) = if rule.kind == 'b' {
        ("block", "Block devices:")
    } else {
        ("char", "Character devices:")
    };
    let name = match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => format!("/dev/{word}/{major}:{minor}"),
        (None, None) => format!("{word}-*"),
        (Some(major), None) => {
            let section = drivers
                .split("\n\n")
                .find(|s| s.trim_start().starts_with(title))?;
            let driver = section.lines().find_map(|line| {
                let (number, driver) = line.trim().split_once(' ')?;
                (number.parse() == Ok(major)).then_some(driver)
            })?;
            format!("{word}-{driver}")
        }
        // No such thing can be said.
        (None, Some(_)) => return None,
    };
    Some((name, rule.access.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    fn number(all: &Properties, name: &str) -> Option<u64> {
        all.iter().rev().find_map(|(n, v)| match v {
            Value::U64(v) if n == name => Some(*v),
            _ => None,
        })
    }

    #[test]
    fn limits_become_properties() {
        let config = resources(
            r#"{"cpu": {"shares": 1024, "quota": 20500, "period": 100000, "cpus": "0,9"},
                "memory": {"limit": 100, "swap": 150, "reservation": 50}, "pids": {"limit": 0},
                "unified": {"memory.high": "80", "pids.max": "max"}}"#,
        );
        let all = limits(&config, Layout::V2, true).unwrap();
        for (name, wanted) in [
            ("CPUWeight", 100),
            ("CPUQuotaPerSecUSec", 210_000),
            ("CPUQuotaPeriodUSec", 100_000),
            ("MemoryMax", 100),
            ("MemorySwapMax", 50),
            ("MemoryLow", 50),
            ("MemoryHigh", 80),
            ("TasksMax", u64::MAX),
        ] {
            assert_eq!(number(&all, name), Some(wanted), "{name}");
        }
        let cpus = all.iter().find(|(n, _)| n == "AllowedCPUs");
        let wanted = Value::Array("y".to_owned(), vec![Value::Byte(1), Value::Byte(2)]);
        assert_eq!(cpus.map(|(_, v)| v), Some(&wanted));
        let quota = rounded(&config).cpu().as_ref().and_then(LinuxCpu::quota);
        assert_eq!(quota, Some(21_000));
    }

    #[test]
    fn version_1_has_names_of_its_own() {
        let config = resources(
            r#"{"cpu": {"shares": 512}, "memory": {"limit": 100}, "blockIO": {"weight": 300}}"#,
        );
        let all = limits(&config, Layout::V1 { hybrid: true }, true).unwrap();
        assert_eq!(number(&all, "CPUShares"), Some(512));
        assert_eq!(number(&all, "MemoryLimit"), Some(100));
        assert_eq!(number(&all, "BlockIOWeight"), Some(300));
    }

    #[test]
    fn idle_takes_the_weights_place() {
        let config = resources(r#"{"cpu": {"idle": 1, "shares": 512}}"#);
        assert_eq!(
            number(&limits(&config, Layout::V2, true).unwrap(), "CPUWeight"),
            Some(0)
        );
    }

    #[test]
    fn lists_of_processors() {
        assert!(bits("0-3,7").is_ok());
        for wrong in ["", "3-1", "x", "0-99999999"] {
            assert!(bits(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn device_rules_become_a_list_of_what_is_allowed() {
        let drivers = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n";
        let config = resources(
            r#"{"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 8, "access": "rw"},
                {"allow": false, "type": "b", "major": 8, "access": "w"}]}"#,
        );
        let rules = devices::rules(config.devices().as_deref().unwrap()).unwrap();
        let names: Vec<String> = allow_list(&rules)
            .unwrap()
            .iter()
            .filter_map(|rule| node(rule, drivers))
            .map(|(name, access)| format!("{name} {access}"))
            .collect();
        assert_eq!(names[..2], ["block-sd r", "char-* m"]);
        assert!(names.contains(&"char-pts rwm".to_owned()));
        assert!(names.contains(&"/dev/char/1:3 rwm".to_owned()));
        assert_eq!(allow_list(&devices::rules(&[]).unwrap()), None);
    }
}
