//! Mounts a container's root file system, and takes it away again.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use proto::containerd::types::Mount;

/// mount(2) takes at most a page of data; overlay's layers can need more.
const MAX_DATA_BYTES: usize = 4000;

/// Mounts `mounts` in order below `rootfs`, which is created if need be.
/// On failure nothing stays mounted.
pub(crate) fn mount_all(mounts: &[Mount], rootfs: &Path) -> io::Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    match fs::create_dir(rootfs) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
        _ => {}
    }
    for each in mounts {
        if let Err(err) = mount_one(each, rootfs) {
            // The first error is the one to report.
            let _ = unmount_all(rootfs);
            return Err(io::Error::new(
                err.kind(),
                format!(
                    "mount {} {} on {}: {err}",
                    each.r#type,
                    each.source,
                    rootfs.display()
                ),
            ));
        }
    }
    Ok(())
}

/// Unmounts everything at and below `rootfs`; nothing there is no error.
pub(crate) fn unmount_all(rootfs: &Path) -> io::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut points: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| point.starts_with(rootfs))
        .collect();
    // Later mounts cover earlier ones.
    points.reverse();
    for point in points {
        let flags = MntFlags::UMOUNT_NOFOLLOW;
        match umount2(&point, flags) {
            Err(Errno::EBUSY) => umount2(&point, flags | MntFlags::MNT_DETACH)?,
            // Not a mount any more: its propagation peer went before it.
            Err(Errno::EINVAL | Errno::ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

/// mountinfo writes blanks and backslashes as octal numbers.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())
        {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// What the options of a mount ask for.
#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    flags: MsFlags,
    propagation: MsFlags,
    data: Vec<String>,
}

fn parse(options: &[String]) -> Parsed {
    let mut parsed = Parsed {
        flags: MsFlags::empty(),
        propagation: MsFlags::empty(),
        data: Vec::new(),
    };
    for option in options {
        let (set, flag) = match option.as_str() {
            "bind" => (true, MsFlags::MS_BIND),
            "rbind" => (true, MsFlags::MS_BIND | MsFlags::MS_REC),
            "ro" => (true, MsFlags::MS_RDONLY),
            "rw" => (false, MsFlags::MS_RDONLY),
            "nosuid" => (true, MsFlags::MS_NOSUID),
            "suid" => (false, MsFlags::MS_NOSUID),
            "nodev" => (true, MsFlags::MS_NODEV),
            "dev" => (false, MsFlags::MS_NODEV),
            "noexec" => (true, MsFlags::MS_NOEXEC),
            "exec" => (false, MsFlags::MS_NOEXEC),
            "sync" => (true, MsFlags::MS_SYNCHRONOUS),
            "dirsync" => (true, MsFlags::MS_DIRSYNC),
            "remount" => (true, MsFlags::MS_REMOUNT),
            "noatime" => (true, MsFlags::MS_NOATIME),
            "nodiratime" => (true, MsFlags::MS_NODIRATIME),
            "relatime" => (true, MsFlags::MS_RELATIME),
            "strictatime" => (true, MsFlags::MS_STRICTATIME),
            "defaults" | "async" => continue,
            other => {
                match propagation(other) {
                    Some(flag) => parsed.propagation |= flag,
                    None => parsed.data.push(option.clone()),
                }
                continue;
            }
        };
        parsed.flags.set(flag, set);
    }
    parsed
}

fn propagation(option: &str) -> Option<MsFlags> {
    Some(match option {
        "private" => MsFlags::MS_PRIVATE,
        "rprivate" => MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        "slave" => MsFlags::MS_SLAVE,
        "rslave" => MsFlags::MS_SLAVE | MsFlags::MS_REC,
        "shared" => MsFlags::MS_SHARED,
        "rshared" => MsFlags::MS_SHARED | MsFlags::MS_REC,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        "runbindable" => MsFlags::MS_UNBINDABLE | MsFlags::MS_REC,
        _ => return None,
    })
}

fn mount_one(spec: &Mount, rootfs: &Path) -> io::Result<()> {
    let inside = Path::new(spec.target.trim_start_matches('/'));
    if inside
        .components()
        .any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("mount target {:?} leaves the root file system", spec.target),
        ));
    }
    let target = if spec.target.is_empty() {
        rootfs.to_owned()
    } else {
        rootfs.join(inside)
    };
    let parsed = parse(&spec.options);
    let data = parsed.data.join(",");
    if data.len() > MAX_DATA_BYTES {
        mount_compacted(spec, &target, &parsed)?;
    } else {
        mount(
            Some(spec.source.as_str()),
            &target,
            Some(spec.r#type.as_str()),
            parsed.flags,
            Some(data.as_str()),
        )?;
    }
    if !parsed.propagation.is_empty() {
        mount(
            None::<&str>,
            &target,
            None::<&str>,
            parsed.propagation,
            None::<&str>,
        )?;
    }
    // A bind mount takes its flags only by a second call.
    let bind_only = MsFlags::MS_BIND | MsFlags::MS_REC;
    if parsed.flags.contains(MsFlags::MS_BIND) && !(parsed.flags - bind_only).is_empty() {
        mount(
            None::<&str>,
            &target,
            None::<&str>,
            (parsed.flags - MsFlags::MS_REC) | MsFlags::MS_REMOUNT,
            None::<&str>,
        )?;
    }
    Ok(())
}

/// Mounts an overlay whose layers' paths are too long together: from their
/// common directory they are short. The process has one thread, so nobody
/// else sees the other working directory.
fn mount_compacted(spec: &Mount, target: &Path, parsed: &Parsed) -> io::Result<()> {
    let too_long = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "mount options are longer than a page",
        )
    };
    let layers = parsed
        .data
        .iter()
        .find_map(|option| option.strip_prefix("lowerdir="))
        .ok_or_else(too_long)?;
    let dir = common_dir(layers).ok_or_else(too_long)?;
    let prefix = format!("{}/", dir.display());
    let short: Vec<&str> = layers
        .split(':')
        .filter_map(|layer| layer.strip_prefix(&prefix))
        .collect();
    let data: Vec<String> = parsed
        .data
        .iter()
        .map(|option| {
            if option.starts_with("lowerdir=") {
                format!("lowerdir={}", short.join(":"))
            } else {
                option.clone()
            }
        })
        .collect();
    let before = fs::File::open(".")?;
    nix::unistd::chdir(&dir)?;
    let mounted = mount(
        Some(spec.source.as_str()),
        target,
        Some(spec.r#type.as_str()),
        parsed.flags,
        Some(data.join(",").as_str()),
    );
    nix::unistd::fchdir(before)?;
    mounted.map_err(io::Error::from)
}

/// The deepest directory that holds all of the colon-separated `paths`.
fn common_dir(paths: &str) -> Option<PathBuf> {
    let mut paths = paths.split(':').map(Path::new);
    let mut common = paths.next()?.parent()?.to_owned();
    for path in paths {
        while !path.parent()?.starts_with(&common) {
            common = common.parent()?.to_owned();
        }
    }
    common.parent().is_some().then_some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn options_become_flags_propagation_and_data() {
        let parsed = parse(&options("rbind ro rprivate lowerdir=/a:/b index=off"));
        assert_eq!(
            parsed.flags,
            MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY
        );
        assert_eq!(parsed.propagation, MsFlags::MS_PRIVATE | MsFlags::MS_REC);
        assert_eq!(parsed.data, ["lowerdir=/a:/b", "index=off"]);
        assert!(!parse(&options("ro rw")).flags.contains(MsFlags::MS_RDONLY));
    }

    #[test]
    fn layers_share_a_directory() {
        let common = |paths| common_dir(paths);
        assert_eq!(
            common("/var/s/1/fs:/var/s/22/fs"),
            Some(PathBuf::from("/var/s"))
        );
        assert_eq!(common("/var/s/1/fs"), Some(PathBuf::from("/var/s/1")));
        assert_eq!(common("/a/x:/b/y"), None);
    }

    #[test]
    fn a_target_may_not_leave_the_root() {
        let spec = Mount {
            r#type: "tmpfs".into(),
            source: "tmpfs".into(),
            target: "/../x".into(),
            options: vec![],
        };
        let dir = tempfile::tempdir().unwrap();
        let err = mount_all(&[spec], &dir.path().join("rootfs")).unwrap_err();
        assert!(err.to_string().contains("leaves the root"), "{err}");
    }

    #[test]
    fn mountinfo_names_are_unescaped() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescape("/plain"), "/plain");
    }

    #[test]
    fn mounts_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join("root fs");
        let tmpfs = |target: &str| Mount {
            r#type: "tmpfs".into(),
            source: "none".into(),
            target: target.into(),
            options: options("nosuid size=64k"),
        };
        mount_all(&[tmpfs("")], &rootfs).unwrap();
        fs::create_dir(rootfs.join("sub")).unwrap();
        mount_one(&tmpfs("sub"), &rootfs).unwrap();
        unmount_all(&rootfs).unwrap();
        assert!(!rootfs.join("sub").exists());
        fs::remove_dir(&rootfs).unwrap();
        let absent = Mount {
            r#type: "bind".into(),
            source: "/nowhere/at/all".into(),
            target: String::new(),
            options: options("rbind ro"),
        };
        let err = mount_all(&[tmpfs(""), absent], &rootfs).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::NotFound, "{err}");
        fs::remove_dir(&rootfs).unwrap();
    }
}
