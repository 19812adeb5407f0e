//! What of a directory would be left after a power cut.
//!
//! 1. strace records every call by which a program changes a directory tree, and
//!    every one that makes changes last ([`TRACE`]).
//! 2. [`Disk::replay`] carries them out on a model that keeps two states of each
//!    file and of each directory: as programs see them, and as they are surely on
//!    the disk. A file's bytes last once it is synced, its name once its directory
//!    is, and everything at a `syncfs`. That is all that POSIX promises, and less
//!    than any file system does.
//! 3. [`Disk::write_to`] makes a directory of the second state, or of a mixture of
//!    both, as a cut may leave it.
//!
//! Owners, modes and attributes are not kept.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// strace's arguments for a log that can be replayed; the log's file follows.
pub const TRACE: [&str; 7] = [
    "strace",
    "--daemonize",
    "--follow-forks",
    "--decode-fds=path",
    "--string-limit=16777216",
    "--trace=open,openat,creat,close,write,pwrite64,lseek,ftruncate,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,symlink,symlinkat,link,linkat,fsync,fdatasync,syncfs",
    "--output",
];

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Dir,
    Link(Vec<u8>),
    File(usize),
}

#[derive(Debug, Default)]
struct File {
    seen: Vec<u8>,
    lasting: Vec<u8>,
}

/// The model of the tree below one directory.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    files: Vec<File>,
    seen: BTreeMap<PathBuf, Node>,
    lasting: BTreeMap<PathBuf, Node>,
    /// Open descriptors: which file, and where in it.
    open: HashMap<i64, (usize, u64)>,
}

/// One finished call of a log.
#[derive(Debug)]
pub struct Call {
    name: String,
    args: Vec<String>,
    result: String,
}

/// The calls of a log that succeeded, in the order in which they ended.
#[must_use]
pub fn calls(log: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, String> = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((pid, text)) = line.split_once(' ') else {
            continue;
        };
        let text = text.trim_start();
        if let Some(head) = text.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, head.to_owned());
            continue;
        }
        let whole = match text.strip_prefix("<... ") {
            Some(rest) => {
                let tail = rest.split_once(" resumed>").map_or("", |(_, tail)| tail);
                begun.remove(pid).unwrap_or_default() + tail
            }
            None => text.to_owned(),
        };
        calls.extend(parse(&whole));
    }
    calls
}

fn parse(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (args, result) = rest.rsplit_once(" = ")?;
    let args = args.trim_end().strip_suffix(')')?;
    if result.starts_with(['-', '?']) {
        return None;
    }
    Some(Call {
        name: name.to_owned(),
        args: split(args),
        result: result.to_owned(),
    })
}

/// Arguments, at the commas that stand in no string and no path.
fn split(args: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut quoted, mut escaped, mut depth) = (false, false, 0_i32);
    for char in args.chars() {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '<' | '{' if !quoted => depth += 1,
            '>' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(std::mem::take(&mut part).trim().to_owned());
                continue;
            }
            _ => {}
        }
        part.push(char);
    }
    parts.push(part.trim().to_owned());
    parts
}

/// The bytes of a string as strace writes it.
fn unquoted(text: &str) -> Vec<u8> {
    let text = text.trim_start_matches('"').trim_end_matches("...");
    let text = text.strip_suffix('"').unwrap_or(text);
    let mut bytes = Vec::new();
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next().unwrap_or(b'\\') {
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'r' => bytes.push(b'\r'),
            b'v' => bytes.push(0x0b),
            b'f' => bytes.push(0x0c),
            digit @ b'0'..=b'7' => {
                let mut value = u32::from(digit - b'0');
                for _ in 0..2 {
                    match rest.next_if(|next| (b'0'..=b'7').contains(next)) {
                        Some(next) => value = value * 8 + u32::from(next - b'0'),
                        None => break,
                    }
                }
                bytes.push(u8::try_from(value).expect("an escaped byte"));
            }
            other => bytes.push(other),
        }
    }
    bytes
}

/// `7` and `/path` of `7</path>`.
fn descriptor(text: &str) -> (i64, PathBuf) {
    let (number, path) = text.split_once('<').unwrap_or((text, ""));
    let path = path.strip_suffix('>').unwrap_or(path);
    (number.parse().unwrap_or(-1), PathBuf::from(path))
}

fn path(text: &str) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(unquoted(text)))
}

impl Disk {
    /// An empty directory `root`, as it was before the first call.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            files: Vec::new(),
            seen: BTreeMap::new(),
            lasting: BTreeMap::new(),
            open: HashMap::new(),
        }
    }

    /// Carries out one call.
    ///
    /// # Panics
    /// For what the model does not know: a directory that is renamed.
    pub fn replay(&mut self, call: &Call) {
        let args: Vec<&str> = call.args.iter().map(String::as_str).collect();
        match (call.name.as_str(), args.as_slice()) {
            ("open" | "creat", [_, flags, ..]) => self.opened(&call.result, flags),
            ("openat", [_, _, flags, ..]) => self.opened(&call.result, flags),
            ("close", [fd, ..]) => drop(self.open.remove(&descriptor(fd).0)),
            ("write", [fd, text, ..]) => self.write(descriptor(fd).0, &unquoted(text), None),
            ("pwrite64", [fd, text, _, at]) => {
                self.write(descriptor(fd).0, &unquoted(text), at.parse().ok());
            }
            ("lseek", [fd, ..]) => {
                let at = call.result.parse().unwrap_or(0);
                if let Some(open) = self.open.get_mut(&descriptor(fd).0) {
                    open.1 = at;
                }
            }
            ("ftruncate", [fd, len]) => {
                if let Some((file, _)) = self.open.get(&descriptor(fd).0) {
                    let len = len.parse().expect("a length");
                    self.files[*file].seen.resize(len, 0);
                }
            }
            ("mkdir", [name, ..]) => self.put(path(name), Node::Dir),
            ("mkdirat", [dir, name, ..]) => self.put(at(dir, name), Node::Dir),
            ("symlink", [target, name]) => self.put(path(name), Node::Link(unquoted(target))),
            ("symlinkat", [target, dir, name]) => {
                self.put(at(dir, name), Node::Link(unquoted(target)));
            }
            ("link", [old, new]) => self.link(&path(old), path(new)),
            ("linkat", [old_dir, old, dir, name, ..]) => {
                self.link(&at(old_dir, old), at(dir, name));
            }
            ("rename", [old, new]) => self.rename(&path(old), path(new)),
            ("renameat" | "renameat2", [old_dir, old, dir, name, ..]) => {
                self.rename(&at(old_dir, old), at(dir, name));
            }
            ("unlink" | "rmdir", [name]) => drop(self.seen.remove(&path(name))),
            ("unlinkat", [dir, name, ..]) => drop(self.seen.remove(&at(dir, name))),
            ("fsync" | "fdatasync", [fd]) => self.sync(fd),
            ("syncfs", [_]) => self.sync_all(),
            _ => {}
        }
    }

    fn put(&mut self, at: PathBuf, node: Node) {
        if at.starts_with(&self.root) {
            self.seen.insert(at, node);
        }
    }

    fn opened(&mut self, result: &str, flags: &str) {
        let (fd, at) = descriptor(result);
        self.open.remove(&fd);
        if !at.starts_with(&self.root) || flags.contains("O_DIRECTORY") {
            return;
        }
        let file = match self.seen.get(&at) {
            Some(Node::File(file)) => *file,
            Some(_) => return,
            None if flags.contains("O_CREAT") => {
                self.files.push(File::default());
                let file = self.files.len() - 1;
                self.put(at, Node::File(file));
                file
            }
            None => return,
        };
        if flags.contains("O_TRUNC") {
            self.files[file].seen.clear();
        }
        self.open.insert(fd, (file, 0));
    }

    fn write(&mut self, fd: i64, bytes: &[u8], at: Option<u64>) {
        let Some((file, position)) = self.open.get_mut(&fd) else {
            return;
        };
        let begin = at.unwrap_or(*position);
        if at.is_none() {
            *position += bytes.len() as u64;
        }
        let begin = usize::try_from(begin).expect("a small file");
        let seen = &mut self.files[*file].seen;
        seen.resize(seen.len().max(begin + bytes.len()), 0);
        seen[begin..begin + bytes.len()].copy_from_slice(bytes);
    }

    fn link(&mut self, old: &Path, new: PathBuf) {
        if let Some(node) = self.seen.get(old).cloned() {
            self.put(new, node);
        }
    }

    fn rename(&mut self, old: &Path, new: PathBuf) {
        if let Some(node) = self.seen.remove(old) {
            assert_ne!(node, Node::Dir, "{} is renamed", old.display());
            self.put(new, node);
        }
    }

    fn sync(&mut self, fd: &str) {
        let (number, at) = descriptor(fd);
        if let Some((file, _)) = self.open.get(&number) {
            let file = &mut self.files[*file];
            file.lasting.clone_from(&file.seen);
            return;
        }
        let below = |(path, _): &(&PathBuf, &Node)| path.parent() == Some(at.as_path());
        let seen: Vec<_> = self.seen.iter().filter(below).collect();
        let seen: Vec<(PathBuf, Node)> = seen
            .into_iter()
            .map(|(path, node)| (path.clone(), node.clone()))
            .collect();
        self.lasting.retain(|path, _| path.parent() != Some(&at));
        self.lasting.extend(seen);
    }

    fn sync_all(&mut self) {
        self.lasting.clone_from(&self.seen);
        for file in &mut self.files {
            file.lasting.clone_from(&file.seen);
        }
    }

    /// Makes `target` what is left after a cut here. `chance` says for each thing
    /// that need not last whether it does all the same; with `|| false` nothing
    /// does.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_to(&self, target: &Path, mut chance: impl FnMut() -> bool) {
        fs::create_dir_all(target).expect("a directory");
        let mut left: BTreeMap<&PathBuf, &Node> = BTreeMap::new();
        for (path, node) in &self.lasting {
            if self.seen.get(path) == Some(node) || !chance() {
                left.insert(path, node);
            }
        }
        for (path, node) in &self.seen {
            if self.lasting.get(path) != Some(node) && chance() {
                left.insert(path, node);
            }
        }
        for (path, node) in left {
            let below = path.strip_prefix(&self.root).expect("below the root");
            let at = target.join(below);
            // One whose directory is lost is lost with it.
            if below.as_os_str().is_empty() || !at.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match node {
                Node::Dir => fs::create_dir(&at).expect("a directory"),
                Node::Link(to) => {
                    let to = std::ffi::OsString::from_vec(to.clone());
                    std::os::unix::fs::symlink(to, &at).expect("a link");
                }
                Node::File(file) => {
                    let file = &self.files[*file];
                    let all = file.lasting != file.seen && chance();
                    let bytes = if all { &file.seen } else { &file.lasting };
                    fs::write(&at, bytes).expect("a file");
                    let mode = fs::Permissions::from_mode(0o755);
                    fs::set_permissions(&at, mode).expect("a mode");
                }
            }
        }
    }
}

fn at(dir: &str, name: &str) -> PathBuf {
    // An absolute name stands for itself.
    descriptor(dir).1.join(path(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"7 mkdir("/r/d", 0755) = 0
7 openat(AT_FDCWD</>, "/r/d/a", O_WRONLY|O_CREAT, 0600) = 3</r/d/a>
7 write(3</r/d/a>, "x\n\0012,\"", 6 <unfinished ...>
8 fsync(9</elsewhere>) = 0
7 <... write resumed>) = 6
7 openat(AT_FDCWD</>, "/none", O_RDONLY) = -1 ENOENT (No such file or directory)
"#;

    fn left(log: &str) -> Vec<(String, Vec<u8>)> {
        let mut disk = Disk::new(Path::new("/r"));
        for call in calls(log) {
            disk.replay(&call);
        }
        let dir = tempfile::tempdir().expect("a directory");
        disk.write_to(dir.path(), || false);
        let mut found = Vec::new();
        for entry in fs::read_dir(dir.path().join("d")).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            found.push((name, fs::read(&path).expect("a file")));
        }
        found
    }

    #[test]
    fn only_what_was_synced_is_left() {
        let root = "7 fsync(4</r>) = 0\n";
        let dir = "7 fsync(5</r/d>) = 0\n";
        let file = "7 fsync(3</r/d/a>) = 0\n";
        assert_eq!(left(LOG), []);
        assert_eq!(
            left(&format!("{LOG}{file}{dir}")),
            [],
            "its directory has no name"
        );
        assert_eq!(left(&format!("{LOG}{root}{file}")), [], "nor has it");
        let empty = [("a".to_owned(), Vec::new())];
        assert_eq!(left(&format!("{LOG}{root}{dir}")), empty);
        let whole = [("a".to_owned(), b"x\n\x012,\"".to_vec())];
        assert_eq!(left(&format!("{LOG}{root}{dir}{file}")), whole);
        assert_eq!(left(&format!("{LOG}7 syncfs(4</r>) = 0\n")), whole);
    }

    #[test]
    fn a_name_that_was_moved_is_old_or_new() {
        let moved = "7 rename(\"/r/d/a\", \"/r/d/b\") = 0\n";
        let before = format!("{LOG}7 syncfs(4</r>) = 0\n{moved}");
        assert_eq!(left(&before)[0].0, "a");
        assert_eq!(left(&format!("{before}7 fsync(5</r/d>) = 0\n"))[0].0, "b");
    }
}
