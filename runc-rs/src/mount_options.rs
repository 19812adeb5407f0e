//! One entry of `mounts`: its words sorted into what the kernel is told. Pure.

use std::path::{Path, PathBuf};

use kernel::mount as attr;
use kernel::mount::Propagation;
use oci_spec::runtime::Mount;

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
    /// Attributes of this mount and all below (`rro` and the like).
    pub(crate) recursive_set: u64,
    pub(crate) recursive_clear: u64,
    pub(crate) propagation: Vec<(Propagation, bool)>,
    /// The filesystem's own options.
    pub(crate) data: Vec<(String, Option<String>)>,
    /// Fill a new tmpfs with what the image has there.
    pub(crate) copy_up: bool,
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

/// Words that choose the access time mode; the mode is a number inside its mask, relatime being 0.
const ACCESS_TIMES: &[(&str, u64)] = &[
    ("noatime", attr::NOATIME),
    ("atime", 0),
    ("relatime", 0),
    ("norelatime", 0),
    ("strictatime", attr::STRICTATIME),
    ("nostrictatime", 0),
];

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
        .chain(ACCESS_TIMES.iter().map(|(word, _)| *word));
    let recursive = plain.clone().map(|word| format!("r{word}"));
    let propagations = PROPAGATIONS
        .iter()
        .flat_map(|(word, _)| [(*word).to_owned(), format!("r{word}")]);
    let others = [
        "bind",
        "rbind",
        "remount",
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
    /// Sorts the words of `mount`. A relative source of a bind mount is taken from `bundle`.
    pub(crate) fn parse(mount: &Mount, bundle: &Path) -> Self {
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
        let mut out = Mounting {
            destination,
            what,
            source,
            set: 0,
            clear: 0,
            recursive_set: 0,
            recursive_clear: 0,
            propagation: Vec::new(),
            data: Vec::new(),
            copy_up: false,
            words: words.clone(),
        };
        for word in &words {
            out.word(word);
        }
        out
    }

    fn word(&mut self, word: &str) {
        let attribute = |name: &str| ATTRIBUTES.iter().find(|(w, ..)| *w == name);
        let access_time = |name: &str| ACCESS_TIMES.iter().find(|(w, _)| *w == name);
        let recursive = word.strip_prefix('r').unwrap_or_default();
        if let Some((_, bit, on)) = attribute(word) {
            change(&mut self.set, &mut self.clear, *bit, *on);
        } else if let Some((_, mode)) = access_time(word) {
            self.set = self.set & !attr::ATIME_MASK | mode;
            self.clear |= attr::ATIME_MASK;
        } else if let Some((_, bit, on)) = attribute(recursive) {
            change(
                &mut self.recursive_set,
                &mut self.recursive_clear,
                *bit,
                *on,
            );
        } else if let Some((_, mode)) = access_time(recursive) {
            self.recursive_set = self.recursive_set & !attr::ATIME_MASK | mode;
            self.recursive_clear |= attr::ATIME_MASK;
        } else if let Some((_, how)) = PROPAGATIONS.iter().find(|(w, _)| *w == word) {
            self.propagation.push((*how, false));
        } else if let Some((_, how)) = PROPAGATIONS.iter().find(|(w, _)| *w == recursive) {
            self.propagation.push((*how, true));
        } else if word == "tmpcopyup" {
            self.copy_up = true;
        } else if matches!(word, "bind" | "rbind" | "remount") || WITHOUT_MEANING.contains(&word) {
            // Seen already, or nothing to say.
        } else {
            self.data.push(match word.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (word.to_owned(), None),
            });
        }
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
        Mounting::parse(&serde_json::from_str(json).unwrap(), Path::new("/bundle"))
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
}
