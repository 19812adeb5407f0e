//! Device rules: lines for `devices.allow` and `devices.deny` on v1, a small eBPF program on v2.

use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use crate::group::{Cgroup, ControlFile};
use crate::{Error, Layout, Result};

/// One rule; `None` stands for every number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) allow: bool,
    /// `a`, `b` or `c`.
    pub(crate) kind: char,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    /// Out of `rwm`.
    pub(crate) access: String,
}

/// What every container may use whatever its config says, as the devices of its `/dev` would not work otherwise: making nodes,
/// null, zero, full, random, urandom, tty, console, ptmx and pseudo terminals.
fn always_allowed() -> Vec<Rule> {
    let rule = |kind, major, minor, access: &str| Rule {
        allow: true,
        kind,
        major,
        minor,
        access: access.to_owned(),
    };
    let mut rules = vec![rule('c', None, None, "m"), rule('b', None, None, "m")];
    let memory = [
        (1, 3),
        (1, 8),
        (1, 7),
        (5, 0),
        (1, 5),
        (1, 9),
        (5, 1),
        (5, 2),
    ];
    rules.extend(memory.map(|(major, minor)| rule('c', Some(major), Some(minor), "rwm")));
    rules.push(rule('c', Some(136), None, "rwm"));
    rules
}

/// The rules of the config, then those every container has.
pub(crate) fn rules(config: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let mut rules = Vec::with_capacity(config.len() + 11);
    for rule in config {
        let number = |n: Option<i64>| match n {
            None | Some(-1) => Ok(None),
            Some(n) => u32::try_from(n)
                .map(Some)
                .map_err(|_| Error::refused(format!("device rule {rule}: number {n}"))),
        };
        let kind = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => 'a',
            LinuxDeviceType::B => 'b',
            LinuxDeviceType::C | LinuxDeviceType::U => 'c',
            LinuxDeviceType::P => {
                return Err(Error::refused(format!(
                    "device rule {rule}: a fifo is no device"
                )));
            }
        };
        let access = rule.access().clone().unwrap_or_else(|| "rwm".to_owned());
        // Other letters mean nothing, and are taken, to runc.
        let access: String = access.chars().filter(|c| "rwm".contains(*c)).collect();
        if access.is_empty() {
            return Err(Error::refused(format!(
                "device rule {rule}: access must be of r, w and m"
            )));
        }
        rules.push(Rule {
            allow: rule.allow(),
            kind,
            major: number(rule.major())?,
            minor: number(rule.minor())?,
            access,
        });
    }
    rules.extend(always_allowed());
    Ok(rules)
}

/// Makes the rules of a config hold in `cgroup`. Rules that allow everything are left away.
pub(crate) fn apply(cgroup: &Cgroup, resources: &LinuxResources) -> Result<()> {
    let rules = rules(resources.devices().as_deref().unwrap_or_default())?;
    if allows_everything(&rules) {
        return Ok(());
    }
    match cgroup.layout() {
        Layout::V1 { .. } => cgroup
            .dir("devices")
            .map_or(Ok(()), |dir| apply_v1(dir, &rules)),
        Layout::V2 => cgroup
            .unified_dir()
            .map_or(Ok(()), |dir| apply_v2(dir, &rules)),
    }
}

/// Attaches the rules as a program. Without the privilege to do so there is none to make or reach a forbidden device either, so
/// an unprivileged caller goes without.
fn apply_v2(dir: &Path, rules: &[Rule]) -> Result<()> {
    let attach = || -> std::io::Result<()> {
        let program = kernel::filter::load_device_program(&program(rules))?;
        let group = kernel::path::open_dir(dir)?;
        kernel::filter::replace_device_program(program.as_fd(), group.as_fd())
    };
    match attach() {
        Err(e)
            if e.raw_os_error() == Some(nix::libc::EPERM) && !kernel::identity::is_host_root() =>
        {
            Ok(())
        }
        other => other.map_err(|e| Error::new("attach device rules", e)),
    }
}

/// Writes the rules to the files of a v1 devices group, in order.
pub(crate) fn apply_v1(dir: &Path, rules: &[Rule]) -> Result<()> {
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    // Each write is a rule of its own, so one descriptor does for all of a kind.
    let open = |name: &str| ControlFile::open(dir.join(name));
    let (allow, deny) = (open("devices.allow")?, open("devices.deny")?);
    for rule in rules {
        let file = if rule.allow { &allow } else { &deny };
        let kinds: &[char] = match (rule.kind, rule.major, rule.minor) {
            ('a', None, None) => {
                file.write("a")?;
                continue;
            }
            // The kernel takes `a` to mean everything, numbers or not.
            ('a', ..) => &['b', 'c'],
            ('b', ..) => &['b'],
            _ => &['c'],
        };
        let (major, minor) = (number(rule.major), number(rule.minor));
        for kind in kinds {
            file.write(&format!("{kind} {major}:{minor} {}", rule.access))?;
        }
    }
    Ok(())
}

/// Whether the rules allow everything, so that no program is needed.
pub(crate) fn allows_everything(rules: &[Rule]) -> bool {
    rules.iter().all(|rule| rule.allow)
}

/// The rules as an eBPF program for `BPF_PROG_TYPE_CGROUP_DEVICE`. The last rule that matches decides, so they are tested from
/// the last to the first; with none, access is denied if any rule denies.
///
/// Context: `access_type` (device kind in the low half: 1 block, 2 character; access in the high half: 1 mknod, 2 read, 4 write),
/// `major`, `minor`, 32 bits each.
pub(crate) fn program(rules: &[Rule]) -> Vec<u64> {
    let instruction = |code: u64, dst: u64, src: u64, offset: i16, value: i32| {
        code | dst << 8 | src << 12 | u64::from(offset as u16) << 16 | u64::from(value as u32) << 32
    };
    let load = |dst, offset| instruction(0x61, dst, 1, offset, 0);
    // r2: kind, r3: access, r4: major, r5: minor
    let mut out = vec![
        load(2, 0),
        instruction(0x54, 2, 0, 0, 0xffff), // and
        load(3, 0),
        instruction(0x74, 3, 0, 0, 16), // shift right
        load(4, 4),
        load(5, 8),
    ];
    for rule in rules.iter().rev() {
        let mut tests: Vec<Vec<u64>> = Vec::new();
        let not_equal =
            |register, value: u32| vec![instruction(0x56, register, 0, 0, value as i32)];
        match rule.kind {
            'b' => tests.push(not_equal(2, 1)),
            'c' => tests.push(not_equal(2, 2)),
            _ => {}
        }
        let bits = rule.access.chars().fold(0, |bits, c| {
            bits | if c == 'm' {
                1
            } else if c == 'r' {
                2
            } else {
                4
            }
        });
        if bits != 7 {
            // The rule speaks of this access if nothing else is asked for: (access & bits) == access.
            tests.push(vec![
                instruction(0xbc, 1, 3, 0, 0),
                instruction(0x54, 1, 0, 0, bits),
                instruction(0x5e, 1, 3, 0, 0),
            ]);
        }
        if let Some(major) = rule.major {
            tests.push(not_equal(4, major));
        }
        if let Some(minor) = rule.minor {
            tests.push(not_equal(5, minor));
        }
        let mut body: Vec<u64> = tests.concat();
        let verdict = [
            instruction(0xb4, 0, 0, 0, i32::from(rule.allow)),
            instruction(0x95, 0, 0, 0, 0),
        ];
        let end = body.len() + verdict.len();
        for (at, code) in body.iter_mut().enumerate() {
            if matches!(*code & 0xff, 0x56 | 0x5e) {
                *code |= ((end - at - 1) as u64) << 16;
            }
        }
        let unconditional = tests.is_empty();
        out.extend(body);
        out.extend(verdict);
        if unconditional {
            // What would follow can never run, and the verifier refuses that.
            return out;
        }
    }
    out.push(instruction(
        0xb4,
        0,
        0,
        0,
        i32::from(allows_everything(rules)),
    ));
    out.push(instruction(0x95, 0, 0, 0, 0));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program decides, by running it here.
    fn verdict(program: &[u64], access: u32, major: u32, minor: u32) -> bool {
        let mut registers = [0_u32; 11];
        let mut at = 0;
        loop {
            let code = program[at];
            let (dst, src) = ((code >> 8 & 15) as usize, (code >> 12 & 15) as usize);
            let (offset, value) = ((code >> 16) as u16, (code >> 32) as u32);
            at += 1;
            match code & 0xff {
                0x61 => registers[dst] = [access, major, minor][usize::from(offset) / 4],
                0x54 => registers[dst] &= value,
                0x74 => registers[dst] >>= value,
                0xbc => registers[dst] = registers[src],
                0xb4 => registers[dst] = value,
                0x56 if registers[dst] != value => at += usize::from(offset),
                0x5e if registers[dst] != registers[src] => at += usize::from(offset),
                0x56 | 0x5e => {}
                0x95 => return registers[0] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn letters_that_mean_nothing_are_left_out_of_access() {
        let access = |letters: &str| {
            let rule = format!(r#"[{{"allow": true, "type": "c", "access": "{letters}"}}]"#);
            rules(&serde_json::from_str::<Vec<_>>(&rule).unwrap()).map(|r| r[0].access.clone())
        };
        assert_eq!(access("rwa").unwrap(), "rw");
        assert!(access("a").is_err());
    }

    #[test]
    fn deny_all_leaves_only_the_basic_devices() {
        let deny: LinuxDeviceCgroup =
            serde_json::from_str(r#"{"allow": false, "access": "rwm"}"#).unwrap();
        let program = program(&rules(&[deny]).unwrap());
        let (read_write, make, character, block) = (6 << 16, 1 << 16, 2, 1);
        assert!(verdict(&program, character | read_write, 1, 3), "null");
        assert!(
            verdict(&program, character | make, 10, 229),
            "making a node of fuse"
        );
        assert!(
            !verdict(&program, character | read_write, 10, 229),
            "using fuse"
        );
        assert!(!verdict(&program, block | read_write, 8, 0), "a disk");
        kernel::filter::load_device_program(&program).unwrap();
    }

    #[test]
    fn later_rules_win() {
        let config: Vec<LinuxDeviceCgroup> = serde_json::from_str(
            r#"[{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 8, "access": "r"}]"#,
        )
        .unwrap();
        let program = program(&rules(&config).unwrap());
        assert!(verdict(&program, 1 | 2 << 16, 8, 5), "reading");
        assert!(!verdict(&program, 1 | 4 << 16, 8, 5), "writing");
    }
}
