//! Moves network devices of the host into the container's network namespace, with the addresses that an administrator gave them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use kernel::clone::ns;
use kernel::netlink::Routes;

use crate::failure::{Context, Result};
use crate::validate::NetDevice;

/// Moves them into the namespace that process `pid` is in.
pub(super) fn move_devices(devices: &[NetDevice], pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/ns/net");
    let about = || format!("open network namespace {path}");
    let own = File::open("/proc/self/ns/net").context(about)?;
    let theirs = File::open(&path).context(about)?;
    let here = Routes::open().context(about)?;
    kernel::process::setns(theirs.as_fd(), ns::NET).context(about)?;
    let there = Routes::open().context(about);
    kernel::process::setns(own.as_fd(), ns::NET)
        .context(|| "go back to own network namespace".to_owned())?;
    let there = there?;
    for device in devices {
        move_device(device, &here, theirs.as_fd(), &there)
            .context(|| format!("move netDevice {} to namespace {path}", device.name))?;
    }
    Ok(())
}

/// The device is down while it moves, so that nothing is sent by it under a wrong name. That takes its IPv6 addresses, and moving
/// the others; those that somebody gave it and that are valid everywhere are given back.
fn move_device(
    device: &NetDevice,
    here: &Routes,
    theirs: BorrowedFd<'_>,
    there: &Routes,
) -> Result<()> {
    let index = here.index(&device.name).context(|| "find it".to_owned())?;
    let addresses = here
        .addresses(index)
        .context(|| "read its addresses".to_owned())?;
    here.set_up(index, false)
        .context(|| "set it down".to_owned())?;
    here.move_to(index, theirs, &device.name_inside)
        .context(|| format!("move it under the name {}", device.name_inside))?;
    let index = there
        .index(&device.name_inside)
        .context(|| format!("find {} inside", device.name_inside))?;
    for address in addresses.iter().filter(|a| a.is_permanent_and_global()) {
        there
            .add_address(index, address)
            .context(|| format!("give {} its addresses again", device.name_inside))?;
    }
    there
        .set_up(index, true)
        .context(|| format!("set {} up", device.name_inside))
}
