//! What a container may do: its capabilities, and what `--security-opt` says.

use lite_core::capabilities::{ALL, DEFAULT};
use lite_core::{Kind, Result};

use crate::host_config::HostConfig;

/// Which filter of system calls a container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seccomp {
    /// Docker's.
    Default,
    /// None.
    Unconfined,
    /// The text of a profile in Docker's form.
    Custom(String),
}

/// A container's rights, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// `CAP_…`, the bounding set.
    pub capabilities: Vec<&'static str>,
    /// System calls.
    pub seccomp: Seccomp,
    /// Programs cannot gain rights.
    pub no_new_privileges: bool,
    /// AppArmor's profile, where one was named.
    pub apparmor: Option<String>,
    /// Nothing under /proc and /sys is hidden.
    pub bare_paths: bool,
    /// Everything is allowed.
    pub privileged: bool,
}

impl Rights {
    /// The rights that `host` asks for, on a kernel whose last capability has
    /// the number `last`.
    ///
    /// # Errors
    /// InvalidArgument, in Docker's words.
    pub fn of(host: &HostConfig, last: usize) -> Result<Self> {
        let known = &ALL[..ALL.len().min(last + 1)];
        let mut rights = Self {
            capabilities: capabilities(host, known)?,
            seccomp: if host.privileged {
                Seccomp::Unconfined
            } else {
                Seccomp::Default
            },
            no_new_privileges: false,
            apparmor: None,
            bare_paths: host.privileged,
            privileged: host.privileged,
        };
        for option in &host.security_opt {
            rights.apply(option)?;
        }
        Ok(rights)
    }

    fn apply(&mut self, option: &str) -> Result<()> {
        let invalid = || Kind::InvalidArgument.error(format!("invalid --security-opt: {option:?}"));
        if option == "no-new-privileges" {
            self.no_new_privileges = true;
            return Ok(());
        }
        let (key, value) = option.split_once(['=', ':']).ok_or_else(invalid)?;
        match (key, value) {
            ("no-new-privileges", "true") => self.no_new_privileges = true,
            ("no-new-privileges", "false") => self.no_new_privileges = false,
            ("seccomp", "unconfined") => self.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin") => self.seccomp = Seccomp::Default,
            ("seccomp", profile) => self.seccomp = Seccomp::Custom(profile.to_owned()),
            ("apparmor", "unconfined") => self.apparmor = None,
            ("apparmor", profile) => self.apparmor = Some(profile.to_owned()),
            ("systempaths", "unconfined") => self.bare_paths = true,
            // Without SELinux a label changes nothing, as in Docker.
            ("label", _) => {}
            _ => return Err(invalid()),
        }
        Ok(())
    }
}

fn capabilities(host: &HostConfig, known: &[&'static str]) -> Result<Vec<&'static str>> {
    if host.privileged {
        return Ok(known.to_vec());
    }
    let add = named("CapAdd", &host.cap_add, known)?;
    let drop = named("CapDrop", &host.cap_drop, known)?;
    let every = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case("all"));
    let base: Vec<&'static str> = match (every(&host.cap_add), every(&host.cap_drop)) {
        (true, _) => known.to_vec(),
        (false, true) => Vec::new(),
        (false, false) => DEFAULT.to_vec(),
    };
    let mut held: Vec<_> = base.into_iter().filter(|cap| !drop.contains(cap)).collect();
    for cap in add {
        if !held.contains(&cap) {
            held.push(cap);
        }
    }
    Ok(held)
}

/// The capabilities that a list names, without `ALL`.
fn named(what: &str, list: &[String], known: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for name in list.iter().filter(|name| !name.eq_ignore_ascii_case("all")) {
        let upper = name.to_ascii_uppercase();
        let full = match upper.strip_prefix("CAP_") {
            Some(_) => upper,
            None => format!("CAP_{upper}"),
        };
        match known.iter().find(|cap| **cap == full) {
            Some(cap) => found.push(*cap),
            None => {
                return Err(Kind::InvalidArgument
                    .error(format!("invalid {what}: unknown capability: {full:?}")));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(add: &[&str], drop: &[&str]) -> Result<Rights> {
        let host = HostConfig {
            cap_add: add.iter().map(|&name| name.to_owned()).collect(),
            cap_drop: drop.iter().map(|&name| name.to_owned()).collect(),
            ..HostConfig::default()
        };
        Rights::of(&host, 40)
    }

    #[test]
    fn capabilities_are_added_to_and_taken_from_dockers() {
        assert_eq!(rights(&[], &[]).unwrap().capabilities, DEFAULT);
        let changed = rights(&["net_admin", "CAP_SYS_TIME"], &["chown"]).unwrap();
        assert_eq!(changed.capabilities.len(), 15);
        assert!(changed.capabilities.contains(&"CAP_NET_ADMIN"));
        assert!(!changed.capabilities.contains(&"CAP_CHOWN"));
        assert_eq!(
            rights(&["KILL"], &["ALL"]).unwrap().capabilities,
            ["CAP_KILL"]
        );
        assert_eq!(rights(&["ALL"], &["KILL"]).unwrap().capabilities.len(), 40);
    }

    #[test]
    fn an_unknown_capability_is_named() {
        let err = rights(&["fly"], &[]).unwrap_err();
        assert_eq!(
            err.to_string(),
            "invalid CapAdd: unknown capability: \"CAP_FLY\""
        );
    }

    #[test]
    fn a_kernel_gives_no_more_than_it_has() {
        let host = HostConfig {
            privileged: true,
            ..HostConfig::default()
        };
        assert_eq!(Rights::of(&host, 37).unwrap().capabilities.len(), 38);
    }

    #[test]
    fn security_options_are_read() {
        let with = |option: &str| {
            let host = HostConfig {
                security_opt: vec![option.to_owned()],
                ..HostConfig::default()
            };
            Rights::of(&host, 40)
        };
        assert!(with("no-new-privileges").unwrap().no_new_privileges);
        assert!(with("no-new-privileges:true").unwrap().no_new_privileges);
        assert_eq!(
            with("seccomp=unconfined").unwrap().seccomp,
            Seccomp::Unconfined
        );
        assert!(with("systempaths=unconfined").unwrap().bare_paths);
        assert!(with("label=disable").is_ok());
        assert!(with("nonsense").is_err());
    }
}
