//! `update`: changes a container's limits.

use std::io::Read;

use cgroup::systemd::rounded;
use oci_spec::runtime::{LinuxIntelRdt, LinuxResources};
use serde_json::{Map, Value, json};

use crate::bundle::parse;
use crate::cli::UpdateArgs;
use crate::commands::Globals;
use crate::failure::{Context, Failure, Result};
use crate::phrases;
use crate::rdt::{self, Resctrl};
use crate::state::{Record, Status};

pub(super) fn run(globals: &Globals, args: &UpdateArgs) -> Result<()> {
    let (place, _) = globals.container(&args.id)?;
    let _locked = place.lock()?;
    let mut record = place.load()?;
    if place.status(&record)? == Status::Stopped {
        return Err(Failure::new(phrases::NOT_RUNNING));
    }
    let shares = shares(args, &record)?;
    let resources = match &args.resources {
        Some(file) => {
            let mut text = Vec::new();
            if file.as_os_str() == "-" {
                std::io::stdin()
                    .read_to_end(&mut text)
                    .context(|| "read standard input".to_owned())?;
            } else {
                text = std::fs::read(file).context(|| format!("read {}", file.display()))?;
            }
            parse(&text, "resources", "", &globals.log)?
        }
        None => from_flags(args)?,
    };
    let old = record
        .spec
        .linux()
        .as_ref()
        .and_then(|l| l.resources().as_ref());
    let resources = with_the_other_half(resources, old);
    let updating = || "update limits".to_owned();
    let (cgroup, scope) = (record.cgroup(), record.scope());
    let resources = match scope {
        Some(scope) => {
            let resources = rounded(&resources);
            scope.update(&cgroup, &resources).context(updating)?;
            resources
        }
        None => resources,
    };
    cgroup.update(&resources).context(updating)?;
    if let Some((machine, config)) = &shares {
        rdt::update(machine, &record.intel_rdt_path, config).context(updating)?;
    }
    if let Some(linux) = record.spec.linux_mut() {
        if let Some((_, config)) = shares {
            linux.set_intel_rdt(Some(config));
        }
        let merged = merge(linux.resources().as_ref(), &resources)?;
        linux.set_resources(Some(merged));
    }
    place.save(&record)
}

/// The shares of cache and bandwidth with those of the command line in place of the old; none if it has none.
fn shares(args: &UpdateArgs, record: &Record) -> Result<Option<(Resctrl, LinuxIntelRdt)>> {
    let given = |flag: &Option<String>| flag.clone().filter(|text| !text.is_empty());
    let (cache, bandwidth) = (given(&args.l3_cache_schema), given(&args.mem_bw_schema));
    if cache.is_none() && bandwidth.is_none() {
        return Ok(None);
    }
    let machine = Resctrl::find();
    if cache.is_some() && !machine.as_ref().is_some_and(Resctrl::has_cache) {
        return Err(Failure::new(
            "Intel RDT/CAT: l3 cache schema is not enabled",
        ));
    }
    if bandwidth.is_some() && !machine.as_ref().is_some_and(Resctrl::has_bandwidth) {
        return Err(Failure::new(
            "Intel RDT/MBA: memory bandwidth schema is not enabled",
        ));
    }
    let config = record.spec.linux().as_ref();
    let (Some(machine), Some(mut config)) = (machine, config.and_then(|l| l.intel_rdt().clone()))
    else {
        return Err(Failure::new(
            "updating a non-existent Intel RDT configuration is not supported",
        ));
    };
    if cache.is_some() {
        config.set_l3_cache_schema(cache);
    }
    if bandwidth.is_some() {
        config.set_mem_bw_schema(bandwidth);
    }
    Ok(Some((machine, config)))
}

/// A quota is nothing without its period: where only one of the two is given, the other stays what it was.
fn with_the_other_half(mut new: LinuxResources, old: Option<&LinuxResources>) -> LinuxResources {
    let set = |n: Option<u64>| n.is_some_and(|n| n != 0);
    let old = old.and_then(|r| r.cpu().as_ref());
    let cpu = new.cpu().clone();
    if let (Some(mut cpu), Some(old)) = (cpu, old) {
        let quota = cpu.quota().is_some_and(|q| q != 0);
        if quota && !set(cpu.period()) {
            cpu.set_period(old.period());
        } else if !quota && set(cpu.period()) {
            cpu.set_quota(old.quota());
        }
        new.set_cpu(Some(cpu));
    }
    new
}

fn from_flags(args: &UpdateArgs) -> Result<LinuxResources> {
    let mut cpu = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            cpu.insert(key.to_owned(), value);
        }
    };
    put("period", args.cpu_period.map(Value::from));
    put("quota", args.cpu_quota.map(Value::from));
    put("burst", args.cpu_burst.map(Value::from));
    put("shares", args.cpu_share.map(Value::from));
    put("realtimePeriod", args.cpu_rt_period.map(Value::from));
    put("realtimeRuntime", args.cpu_rt_runtime.map(Value::from));
    put("cpus", args.cpuset_cpus.clone().map(Value::from));
    put("mems", args.cpuset_mems.clone().map(Value::from));
    put("idle", args.cpu_idle.map(Value::from));
    let mut memory = Map::new();
    for (key, text) in [
        ("limit", &args.memory),
        ("reservation", &args.memory_reservation),
        ("swap", &args.memory_swap),
    ] {
        if let Some(text) = text {
            memory.insert(key.to_owned(), Value::from(bytes(text)?));
        }
    }
    // Memory without a limit and swap with one is what the kernel refuses.
    if memory.get("limit") == Some(&Value::from(-1)) {
        memory.entry("swap").or_insert(Value::from(-1));
    }
    let mut all = json!({ "cpu": cpu, "memory": memory });
    if let Some(limit) = args.pids_limit {
        all["pids"] = json!({ "limit": limit });
    }
    if let Some(weight) = args.blkio_weight {
        all["blockIO"] = json!({ "weight": weight });
    }
    serde_json::from_value(all).context(|| "update".to_owned())
}

/// `-1`, `1048576`, `64m`, `1GiB`: units are powers of 1024.
pub(super) fn bytes(text: &str) -> Result<i64> {
    let wrong = || Failure::new(format!("expected a number of bytes, got {text:?}"));
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '-')
        .unwrap_or(text.len());
    let number: i64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = text[digits..].to_ascii_lowercase();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// The limits recorded, with those given in place of the old.
fn merge(old: Option<&LinuxResources>, new: &LinuxResources) -> Result<LinuxResources> {
    fn overlay(old: &mut Value, new: Value) {
        match (old, new) {
            (Value::Object(old), Value::Object(new)) => {
                for (key, value) in new {
                    overlay(old.entry(key).or_insert(Value::Null), value);
                }
            }
            (old, new) => *old = new,
        }
    }
    let tree = |r: &LinuxResources| serde_json::to_value(r).context(|| "print limits".to_owned());
    let mut merged = old.map(tree).transpose()?.unwrap_or_else(|| json!({}));
    overlay(&mut merged, tree(new)?);
    serde_json::from_value(merged).context(|| "merge limits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        for (text, wanted) in [
            ("-1", -1),
            ("64m", 64 << 20),
            ("1GiB", 1 << 30),
            ("512KB", 512 << 10),
            ("7", 7),
        ] {
            assert_eq!(bytes(text).unwrap(), wanted, "{text}");
        }
        assert!(bytes("much").is_err());
        assert!(bytes("9999999999t").is_err());
    }
}
