//! The devices of a container, those that every one has and its config's, and the links in /dev.

use std::path::{Path, PathBuf};

use kernel::clone::ns;
use oci_spec::runtime::LinuxDeviceType;

use super::{Device, Step};
use crate::failure::{Failure, Result};
use crate::mount_options::What;
use crate::validate::ValidSpec;

/// The devices that every container has.
fn default_devices() -> impl Iterator<Item = Device> {
    [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ]
    .into_iter()
    .map(|(name, major, minor)| Device {
        path: Path::new("/dev").join(name),
        kind: 'c',
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    })
}

/// Where they are.
pub(crate) fn default_device_places() -> impl Iterator<Item = PathBuf> {
    default_devices().map(|device| device.path)
}

pub(super) fn devices(steps: &mut Vec<Step>, spec: &ValidSpec) -> Result<()> {
    // A /dev of the host has its devices.
    let host_dev = spec
        .mounts
        .iter()
        .any(|m| m.destination == Path::new("/dev") && matches!(m.what, What::Bind { .. }));
    let mut all: Vec<Device> = Vec::new();
    for (at, device) in spec
        .linux()
        .and_then(|l| l.devices().as_ref())
        .into_iter()
        .flatten()
        .enumerate()
    {
        let number = |n: i64| {
            u64::try_from(n).map_err(|_| {
                Failure::new(format!(
                    "config.json: /linux/devices/{at}: expected a device number, got {n}"
                ))
            })
        };
        let kind = match device.typ() {
            LinuxDeviceType::B => 'b',
            LinuxDeviceType::P => 'p',
            LinuxDeviceType::C | LinuxDeviceType::U => 'c',
            LinuxDeviceType::A => {
                return Err(Failure::new(format!(
                    "config.json: /linux/devices/{at}/type: expected b, c, u or p, got a"
                )));
            }
        };
        all.push(Device {
            path: device.path().clone(),
            kind,
            major: number(device.major())?,
            minor: number(device.minor())?,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        });
    }
    if !host_dev {
        let defaults: Vec<Device> = default_devices()
            .filter(|default| !all.iter().any(|device| device.path == default.path))
            .collect();
        all.splice(0..0, defaults);
    }
    // The kernel lets nobody make nodes in a user namespace; the host's are bound there.
    let bind = spec.namespaces.has(ns::USER);
    steps.extend(
        all.into_iter()
            .map(|device| Step::MakeDevice { device, bind }),
    );
    if !host_dev {
        for (target, path) in [
            ("/proc/self/fd", "/dev/fd"),
            ("/proc/self/fd/0", "/dev/stdin"),
            ("/proc/self/fd/1", "/dev/stdout"),
            ("/proc/self/fd/2", "/dev/stderr"),
            ("/proc/kcore", "/dev/core"),
            ("pts/ptmx", "/dev/ptmx"),
        ] {
            steps.push(Step::Symlink { target, path });
        }
    }
    Ok(())
}
