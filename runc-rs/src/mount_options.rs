//! One entry of `mounts`: its words sorted into what the kernel is told. Pure.

use std::path::{Path, PathBuf};

use kernel::mount as attr;
use kernel::mount::Propagation;
use oci_spec::runtime::{LinuxIdMapping, Mount};

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A place of the host.
    Bind { recursive: bool },
    /// The container's cgroups.
    Cgroup,
    /// A new filesystem of this type.
    New(String),
    /// Nothing: only the attributes of what is mounted there change.
    Remount,
}

/// Maps of users and groups, line by line as `/proc/PID/uid_map` takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdMaps {
    pub(crate) users: String,
    pub(crate) groups: String,
}

impl IdMaps {
    /// `None` if either is missing.
    pub(crate) fn new(
        users: Option<&[LinuxIdMapping]>,
        groups: Option<&[LinuxIdMapping]>,
    ) -> Option<Self> {
        let lines = |maps: &[LinuxIdMapping]| {
            maps.iter()
                .map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size()))
                .collect::<String>()
        };
        let filled = |maps: Option<&[LinuxIdMapping]>| maps.map(lines).filter(|l| !l.is_empty());
        Some(Self {
            users: filled(users)?,
            groups: filled(groups)?,
        })
    }
}

/// Other owners for what is in a bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owners {
    /// Also in the mounts below it.
    pub(crate) recursive: bool,
    /// `None`: those of the container's user namespace.
    pub(crate) maps: Option<IdMaps>,
}

/// Why the words of a bind mount cannot be followed: they clear what an unprivileged container must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Locked;

/// A mount as the plan has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounting {
    /// Inside the rootfs.
    pub(crate) destination: PathBuf,
    pub(crate) what: What,
    pub(crate) source: Option<PathBuf>,
    /// Attributes of this mount.
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// Whether any word is about those. A bind mount without such words keeps what its source has.
    pub(crate) touched: bool,
    /// Attributes of this mount and all below (`rro` and the like).
    pub(crate) recursive_set: u64,
    pub(crate) recursive_clear: u64,
    pub(crate) propagation: Vec<(Propagation, bool)>,
    /// The filesystem's own options.
    pub(crate) data: Vec<(String, Option<String>)>,
    /// Fill a new tmpfs with what the image has there.
    pub(crate) copy_up: bool,
    pub(crate) owners: Option<Owners>,
    /// SELinux's, of everything in a new filesystem.
    pub(crate) label: Option<String>,
    /// As the config has them, for the plan's text.
    pub(crate) words: Vec<String>,
}

const ATTRIBUTES: &[(&str, u64, bool)] = &[
    ("ro", attr::RDONLY, true),
    ("rw", attr::RDONLY, false),
    ("nosuid", attr::NOSUID, true),
    ("suid", attr::NOSUID, false),
    ("nodev", attr::NODEV, true),
    ("dev", attr::NODEV, false),
    ("noexec", attr::NOEXEC, true),
    ("exec", attr::NOEXEC, false),
    ("nodiratime", attr::NODIRATIME, true),
    ("diratime", attr::NODIRATIME, false),
    ("nosymfollow", attr::NOSYMFOLLOW, true),
    ("symfollow", attr::NOSYMFOLLOW, false),
];

/// Words that choose the access time mode, or take that choice back; the mode is a number inside its mask, relatime being 0.
const ACCESS_TIMES: &[(&str, u64, bool)] = &[
    ("noatime", attr::NOATIME, true),
    ("atime", attr::NOATIME, false),
    ("relatime", 0, true),
    ("norelatime", 0, false),
    ("strictatime", attr::STRICTATIME, true),
    ("nostrictatime", attr::STRICTATIME, false),
];

/// Attributes that a bind mount has exactly as its words say, once there are any.
const EXACT: u64 = LOCKABLE | attr::NOSYMFOLLOW;

/// Those of them that the kernel keeps an unprivileged user from taking off.
const LOCKABLE: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;

const PROPAGATIONS: &[(&str, Propagation)] = &[
    ("shared", Propagation::Shared),
    ("slave", Propagation::Slave),
    ("private", Propagation::Private),
    ("unbindable", Propagation::Unbindable),
];

/// Options that ask for what is so anyway, or that `mount(8)` keeps to itself.
const WITHOUT_MEANING: &[&str] = &[
    "defaults",
    "async",
    "loud",
    "nolazytime",
    "nomand",
    "noiversion",
    "noacl",
    "acl",
    "",
];

/// All options with a meaning of their own, for `features`.
pub(crate) fn known() -> Vec<String> {
    let plain = ATTRIBUTES
        .iter()
        .map(|(word, ..)| *word)
        .chain(ACCESS_TIMES.iter().map(|(word, ..)| *word));
    let recursive = plain.clone().map(|word| format!("r{word}"));
    let propagations = PROPAGATIONS
        .iter()
        .flat_map(|(word, _)| [(*word).to_owned(), format!("r{word}")]);
    let others = [
        "bind",
        "rbind",
        "remount",
        "idmap",
        "ridmap",
        "tmpcopyup",
        "sync",
        "dirsync",
        "lazytime",
        "mand",
        "silent",
        "iversion",
    ];
    let mut all: Vec<String> = plain
        .map(str::to_owned)
        .chain(recursive)
        .chain(propagations)
        .chain(others.map(str::to_owned))
        .chain(
            WITHOUT_MEANING
                .iter()
                .filter(|w| !w.is_empty())
                .map(|w| (*w).to_owned()),
        )
        .collect();
    all.sort();
    all
}

impl Mounting {
    /// Sorts the words of `mount`. A relative source of a bind mount is taken from `bundle`. A destination may also be told as
    /// the host sees it, below `rootfs`.
    pub(crate) fn parse(mount: &Mount, bundle: &Path, rootfs: &Path) -> Self {
        let kind = mount.typ().as_deref().unwrap_or_default();
        let words = mount.options().clone().unwrap_or_default();
        let has = |word: &str| words.iter().any(|w| w == word);
        let bind = kind == "bind" || has("bind") || has("rbind");
        let what = match kind {
            _ if has("remount") => What::Remount,
            _ if bind => What::Bind {
                recursive: has("rbind"),
            },
            "cgroup" | "cgroup2" => What::Cgroup,
            _ => What::New(kind.to_owned()),
        };
        let source = mount
            .source()
            .clone()
            .map(|s| if bind { bundle.join(s) } else { s });
        let destination = Path::new("/").join(mount.destination());
        let destination = match destination.strip_prefix(rootfs) {
            Ok(inside) if rootfs != Path::new("/") => Path::new("/").join(inside),
            _ => destination,
        };
        let maps = IdMaps::new(
            mount.uid_mappings().as_deref(),
            mount.gid_mappings().as_deref(),
        );
        let owners = (maps.is_some() || has("idmap") || has("ridmap")).then(|| Owners {
            recursive: has("ridmap"),
            maps,
        });
        let mut out = Mounting {
            destination,
            what,
            source,
            set: 0,
            clear: 0,
            touched: false,
            recursive_set: 0,
            recursive_clear: 0,
            propagation: Vec::new(),
            data: Vec::new(),
            copy_up: false,
            owners,
            label: None,
            words: words.clone(),
        };
        for word in &words {
            out.word(word);
        }
        out
    }

    fn word(&mut self, word: &str) {
        let attribute = |name: &str| ATTRIBUTES.iter().find(|(w, ..)| *w == name);
        let access_time = |name: &str| ACCESS_TIMES.iter().find(|(w, ..)| *w == name);
        let recursive = word.strip_prefix('r').unwrap_or_default();
        if let Some((_, bit, on)) = attribute(word) {
            self.touched = true;
            change(&mut self.set, &mut self.clear, *bit, *on);
        } else if let Some((_, mode, on)) = access_time(word) {
            self.touched = true;
            if *on {
                self.set = self.set & !attr::ATIME_MASK | mode;
                self.clear |= attr::ATIME_MASK;
            } else if self.clear & attr::ATIME_MASK != 0 && self.set & attr::ATIME_MASK == *mode {
                self.set &= !attr::ATIME_MASK;
                self.clear &= !attr::ATIME_MASK;
            }
        } else if let Some((_, bit, on)) = attribute(recursive) {
            change(
                &mut self.recursive_set,
                &mut self.recursive_clear,
                *bit,
                *on,
            );
        } else if let Some((_, mode, on)) = access_time(recursive) {
            let mode = if *on { *mode } else { 0 };
            self.recursive_set = self.recursive_set & !attr::ATIME_MASK | mode;
            self.recursive_clear |= attr::ATIME_MASK;
        } else if let Some((_, how)) = PROPAGATIONS.iter().find(|(w, _)| *w == word) {
            self.propagation.push((*how, false));
        } else if let Some((_, how)) = PROPAGATIONS.iter().find(|(w, _)| *w == recursive) {
            self.propagation.push((*how, true));
        } else if word == "tmpcopyup" {
            self.copy_up = true;
        } else if matches!(word, "bind" | "rbind" | "remount" | "idmap" | "ridmap")
            || WITHOUT_MEANING.contains(&word)
        {
            // Seen already, or nothing to say.
        } else {
            self.data.push(match word.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            });
        }
    }
}

impl Mounting {
    /// The same with SELinux's label, if it is to have one: a new filesystem does, unless its own options say what it is. What
    /// is bound has labels already, and the kernel's own filesystems keep theirs.
    pub(crate) fn labelled(mut self, label: Option<&String>) -> Self {
        let labels = ["context", "fscontext", "defcontext", "rootcontext"];
        let told = self
            .data
            .iter()
            .any(|(key, _)| labels.contains(&key.as_str()));
        let fitting = match &self.what {
            What::New(kind) => !matches!(kind.as_str(), "proc" | "sysfs"),
            What::Cgroup => true,
            What::Bind { .. } | What::Remount => false,
        };
        self.label = label.filter(|_| fitting && !told).cloned();
        self
    }

    /// What a bind mount's words come to over the attributes `now` that its source has: what to set and what to clear, or
    /// nothing. As `mount(2)` remounts: attributes that are not told are off, but the access time mode stays unless one is told.
    /// With `locked`, as in a user namespace of its own, what the source has stays on, and telling to clear it is an error.
    pub(crate) fn over(&self, now: u64, locked: bool) -> Result<Option<(u64, u64)>, Locked> {
        if !self.touched {
            return Ok(None);
        }
        let kept = if locked { now & LOCKABLE } else { 0 };
        if kept & self.clear != 0 {
            return Err(Locked);
        }
        let set = self.set | kept;
        let mut clear = EXACT & !set;
        if self.clear & attr::ATIME_MASK != 0 || set & attr::NODIRATIME != 0 {
            let times = attr::ATIME_MASK | attr::NODIRATIME;
            if locked && (set ^ now) & times != 0 {
                return Err(Locked);
            }
            clear |= attr::ATIME_MASK | attr::NODIRATIME & !set;
        }
        Ok(Some((set, clear)))
    }
}

fn change(set: &mut u64, clear: &mut u64, bit: u64, on: bool) {
    let (into, out_of) = if on { (set, clear) } else { (clear, set) };
    *into |= bit;
    *out_of &= !bit;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Mounting {
        let mount = serde_json::from_str(json).unwrap();
        Mounting::parse(&mount, Path::new("/bundle"), Path::new("/bundle/rootfs"))
    }

    #[test]
    fn a_bind_mount_takes_its_source_from_the_bundle() {
        let m = parse(r#"{"destination":"data","source":"d","options":["rbind","ro","rprivate"]}"#);
        assert_eq!(m.what, What::Bind { recursive: true });
        assert_eq!(m.source.as_deref(), Some(Path::new("/bundle/d")));
        assert_eq!(m.destination, Path::new("/data"));
        assert_eq!(
            (m.set, m.propagation),
            (attr::RDONLY, vec![(Propagation::Private, true)])
        );
    }

    #[test]
    fn the_last_of_two_words_wins_and_the_rest_is_the_filesystems() {
        let m = parse(
            r#"{"destination":"/t","type":"tmpfs","source":"tmpfs","options":["ro","rw","strictatime","mode=755","size=64k"]}"#,
        );
        assert_eq!(
            (m.set, m.clear),
            (attr::STRICTATIME, attr::RDONLY | attr::ATIME_MASK)
        );
        assert_eq!(
            m.data,
            [
                ("mode".into(), Some("755".into())),
                ("size".into(), Some("64k".into()))
            ]
        );
    }

    #[test]
    fn recursive_attributes_are_kept_apart() {
        let m = parse(r#"{"destination":"/t","source":"/s","options":["bind","rro","rnoatime"]}"#);
        assert_eq!(m.set, 0);
        assert_eq!(m.recursive_set, attr::RDONLY | attr::NOATIME);
    }

    #[test]
    fn a_destination_may_be_told_as_the_host_sees_it() {
        let m = parse(r#"{"destination":"/bundle/rootfs/data","source":"d","options":["bind"]}"#);
        assert_eq!(m.destination, Path::new("/data"));
    }

    #[test]
    fn owners_are_those_told_or_the_containers() {
        let maps = r#""uidMappings":[{"containerID":0,"hostID":5,"size":2}],
                      "gidMappings":[{"containerID":0,"hostID":7,"size":1}]"#;
        let m = parse(&format!(
            r#"{{"destination":"/t","source":"/s","options":["bind"],{maps}}}"#
        ));
        let owners = m.owners.unwrap();
        assert!(!owners.recursive);
        let maps = owners.maps.unwrap();
        assert_eq!(
            (maps.users.as_str(), maps.groups.as_str()),
            ("0 5 2\n", "0 7 1\n")
        );
        let m = parse(r#"{"destination":"/t","source":"/s","options":["rbind","ridmap"]}"#);
        assert_eq!(
            m.owners,
            Some(Owners {
                recursive: true,
                maps: None
            })
        );
    }

    #[test]
    fn a_bind_mount_has_exactly_the_attributes_told() {
        let over = |words: &str, now: u64, locked: bool| {
            parse(&format!(
                r#"{{"destination":"/t","source":"/s","options":["bind"{words}]}}"#
            ))
            .over(now, locked)
        };
        // Nothing told, nothing changed.
        assert_eq!(over("", attr::RDONLY, true), Ok(None));
        // What is not told goes, but for the access times.
        let (set, clear) = over(r#","ro""#, attr::NOSUID | attr::NOATIME, false)
            .unwrap()
            .unwrap();
        assert_eq!(set, attr::RDONLY);
        assert_eq!(
            clear,
            attr::NOSUID | attr::NODEV | attr::NOEXEC | attr::NOSYMFOLLOW
        );
        assert_eq!(
            over(r#","atime""#, attr::NOATIME, false)
                .unwrap()
                .unwrap()
                .1
                & attr::ATIME_MASK,
            0
        );
        // Unless it is locked; then it cannot be taken off by name either.
        let (set, clear) = over(r#","nodev""#, attr::RDONLY, true).unwrap().unwrap();
        assert_eq!((set, clear & attr::RDONLY), (attr::NODEV | attr::RDONLY, 0));
        assert_eq!(over(r#","rw""#, attr::RDONLY, true), Err(Locked));
        assert_eq!(over(r#","relatime""#, attr::NOATIME, true), Err(Locked));
        assert!(over(r#","noatime""#, attr::NOATIME, true).is_ok());
        // A mode that is told replaces the other; nodiratime alone means relatime.
        let (set, clear) = over(r#","nodiratime""#, attr::NOATIME, false)
            .unwrap()
            .unwrap();
        assert_eq!(
            (set, clear & attr::ATIME_MASK),
            (attr::NODIRATIME, attr::ATIME_MASK)
        );
        let (set, clear) = over(r#","strictatime""#, attr::NODIRATIME, false)
            .unwrap()
            .unwrap();
        assert_eq!(set, attr::STRICTATIME);
        assert_eq!(clear & attr::NODIRATIME, attr::NODIRATIME);
    }
}
