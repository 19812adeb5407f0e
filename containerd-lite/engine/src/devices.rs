//! Devices of the host in a container: `--device`, `--device-cgroup-rule`, the
//! throttles of block devices, and all of `/dev` for a privileged one.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

pub use lite_core::devices::Device;
use lite_core::devices::collect;

use lite_core::{Because, Kind, Result};
use serde_json::{Value, json};

use crate::host_config::{HostConfig, Resources};

/// The devices that `host` asks for.
///
/// # Errors
/// InvalidArgument, naming what cannot be had.
pub fn resolve(host: &HostConfig) -> Result<Vec<Device>> {
    let mut devices = Vec::new();
    for text in &host.devices {
        let (source, target, access) = parse(text)?;
        collect(Path::new(source), Path::new(target), access, &mut devices).map_err(|err| {
            Kind::InvalidArgument
                .error(format!(
                    "gather device information while creating device {source}"
                ))
                .because(err)
        })?;
        if devices.is_empty() {
            return Err(Kind::InvalidArgument.error(format!("{source}: not a device node")));
        }
    }
    if host.privileged {
        collect(Path::new("/dev"), Path::new("/dev"), "rwm", &mut devices)
            .op(|| "read /dev".to_owned())?;
    }
    let mut seen = std::collections::HashSet::new();
    devices.retain(|device| seen.insert(device.path.clone()));
    Ok(devices)
}

/// `host[:container[:permissions]]`.
fn parse(text: &str) -> Result<(&str, &str, &str)> {
    let bad = || Kind::InvalidArgument.error(format!("invalid device specification: {text}"));
    let is_access = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, access] if is_access(access) => (source, source, access),
        [source, target] => (source, target, "rwm"),
        [source, target, access] if is_access(access) => (source, target, access),
        _ => return Err(bad()),
    };
    if source.is_empty() || !target.starts_with('/') {
        return Err(bad());
    }
    Ok((source, target, access))
}

/// `c 1:3 rwm` as runtime-spec `linux.resources.devices`.
///
/// # Errors
/// InvalidArgument, in Docker's words.
pub fn rule(text: &str) -> Result<Value> {
    let bad =
        || Kind::InvalidArgument.error(format!("invalid device cgroup rule format: '{text}'"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind, numbers, access] = words[..] else {
        return Err(bad());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| match text {
        "*" => Ok(-1),
        text => text.parse::<i64>().map_err(|_| bad()),
    };
    if !matches!(kind, "a" | "b" | "c") || !access.chars().all(|c| "rwm".contains(c)) {
        return Err(bad());
    }
    let mut rule = json!({ "allow": true, "type": kind, "access": access });
    for (name, number) in [("major", number(major)?), ("minor", number(minor)?)] {
        if number >= 0 {
            rule[name] = json!(number);
        }
    }
    Ok(rule)
}

/// `device:rate` lists as runtime-spec `linux.resources.blockIO`; what is no
/// device was refused at create.
#[must_use]
pub fn throttle(resources: &Resources) -> Value {
    let mut object = json!({});
    let lists = [
        ("throttleReadBpsDevice", &resources.read_bps),
        ("throttleWriteBpsDevice", &resources.write_bps),
        ("throttleReadIOPSDevice", &resources.read_iops),
        ("throttleWriteIOPSDevice", &resources.write_iops),
    ];
    for (name, list) in lists {
        let rates: Vec<Value> = list.iter().filter_map(|text| rate(text).ok()).collect();
        if !rates.is_empty() {
            object[name] = json!(rates);
        }
    }
    object
}

/// Checks rules and throttles.
///
/// # Errors
/// InvalidArgument for the first that cannot be.
pub fn check(resources: &Resources) -> Result<()> {
    for text in &resources.device_rules {
        rule(text)?;
    }
    let lists = [
        &resources.read_bps,
        &resources.write_bps,
        &resources.read_iops,
        &resources.write_iops,
    ];
    for text in lists.into_iter().flatten() {
        rate(text)?;
    }
    Ok(())
}

fn rate(text: &str) -> Result<Value> {
    let bad =
        |why: &str| Kind::InvalidArgument.error(format!("invalid device rate {text:?}: {why}"));
    let (path, rate) = text
        .rsplit_once(':')
        .ok_or_else(|| bad("expected <device-path>:<number>[<unit>]"))?;
    let rate: u64 = rate
        .parse()
        .map_err(|_| bad("expected a positive number"))?;
    let about = fs::metadata(path).map_err(|err| bad("look at the device").because(err))?;
    if !about.file_type().is_block_device() {
        return Err(bad("not a block device"));
    }
    let rdev = about.rdev();
    Ok(json!({
        "major": nix::sys::stat::major(rdev),
        "minor": nix::sys::stat::minor(rdev),
        "rate": rate,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_keeps_its_numbers_under_another_name() {
        let host = HostConfig {
            devices: vec!["/dev/null:/dev/nothing:r".to_owned()],
            ..HostConfig::default()
        };
        let found = resolve(&host).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].path.as_str(), found[0].major, found[0].minor),
            ("/dev/nothing", 1, 3)
        );
        assert_eq!(found[0].rule()["access"], "r");
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for text in [
            "/nowhere",
            "/etc/passwd",
            "/dev/null:x",
            "/dev/null:/x:z",
            "",
        ] {
            let host = HostConfig {
                devices: vec![text.to_owned()],
                ..HostConfig::default()
            };
            assert!(resolve(&host).is_err(), "{text}");
        }
    }

    #[test]
    fn rules_are_read() {
        assert_eq!(
            rule("c 42:* rmw").unwrap(),
            json!({ "allow": true, "type": "c", "access": "rmw", "major": 42 })
        );
        assert!(rule("x 1:1 r").is_err());
        assert!(rule("c 1 r").is_err());
    }
}
