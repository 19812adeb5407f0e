//! The daemon is killed while it pulls, imports, commits, removes and collects,
//! at moments that a seed chooses. After the next start the stores and the disk
//! say the same, to the byte; what was reported done is whole; and nothing of
//! what was half done is seen or left behind.
//!
//! Two ways to choose the moment: a time, and the n-th call of the kind that
//! changes a disk, which strace counts. Some daemons are killed once more while
//! they put in order what the last one left.
//!
//! `LITE_CRASH_ROUNDS` sets how many kills, `LITE_CRASH_SEED` repeats a run,
//! `LITE_CRASH_DIR` is where the stores lie. A failure names seed and round.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::command;
use tests::image::{self, Image};
use tests::need::{self, Need};
use tests::registry::Registry;
use tests::stack::Stack;
use tests::stores::{self, entries, fingerprint, rows};
use tests::tar::Tar;

/// Kills in a run where nothing else is asked for.
const ROUNDS: u64 = 30;

/// The calls that change a disk, in strace's words: one set is counted in a
/// round.
const CALLS: [&str; 6] = [
    "write,pwrite64,writev",
    "fsync,fdatasync,syncfs",
    "rename,renameat,renameat2",
    "unlink,unlinkat,rmdir",
    "mkdir,mkdirat,ftruncate",
    "openat",
];

/// Numbers that look random and can be had again.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is {text:?}, not a number"))
    })
}

/// Busybox under layers that do not compress: two that `own` tells apart from
/// those of the other image, over one that both share.
fn image(own: u64) -> Image {
    let mut image = Image::busybox();
    for layer in [0, own, own + 1] {
        let mut random = Random::new(layer + 1);
        let noise: Vec<u8> = std::iter::repeat_with(|| random.next().to_le_bytes())
            .take(1 << 16)
            .flatten()
            .collect();
        let mut tar = Tar::new().file(&format!("noise{layer}"), 0o644, &noise);
        for small in 0..40 {
            let name = format!("small{layer}-{small}");
            tar = tar.dir(&name, 0o755);
            tar = tar.file(&format!("{name}/file"), 0o600, &noise[..small * 7]);
        }
        image = image.layer(tar.file("in-each", 0o644, &noise[..8]));
    }
    image
}

/// What is known of an image, or of a snapshot that was committed by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Here,
    Gone,
    /// The work on it was hit: both are right.
    Either,
}

/// One of two images, and where it can be had.
struct Subject {
    image: Image,
    reference: String,
    archive: String,
    /// What its files come to.
    tree: String,
    known: Known,
    /// A pull by ctr was hit, which names an image first and unpacks it then.
    half_by_ctr: bool,
}

/// What is going on when the daemon dies.
#[derive(Debug, Clone, Copy)]
enum Work {
    Pull,
    PullByCtr,
    Load,
    Remove,
    RemoveByCtr,
    Commit,
}

impl Work {
    const ALL: [Self; 6] = [
        Self::Pull,
        Self::PullByCtr,
        Self::Load,
        Self::Remove,
        Self::RemoveByCtr,
        Self::Commit,
    ];

    /// What `known` becomes when the work was hit, and when it came to its end.
    fn outcome(self, known: Known, done: bool) -> Known {
        let wanted = match self {
            Self::Pull | Self::PullByCtr | Self::Load => Known::Here,
            Self::Remove | Self::RemoveByCtr => Known::Gone,
            Self::Commit => return known,
        };
        if done || known == wanted {
            wanted
        } else {
            Known::Either
        }
    }

    fn start(self, stack: &Stack, subject: &Subject, unique: u64) -> Child {
        let Subject {
            reference, archive, ..
        } = subject;
        let mut command = match self {
            Self::Pull => stack.ctl_command(&["pull", reference]),
            Self::Load => stack.ctl_command(&["load", "-i", archive]),
            Self::Remove => stack.ctl_command(&["rmi", "-f", reference]),
            Self::PullByCtr => ctr(stack, &["images", "pull", "--plain-http", reference]),
            Self::RemoveByCtr => ctr(stack, &["images", "rm", "--sync", reference]),
            Self::Commit => {
                let ctr = format!(
                    "ctr --connect-timeout 3s --address {}",
                    stack.socket().display()
                );
                let (key, name) = (format!("key{unique}"), format!("name{unique}"));
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!(
                    "{ctr} snapshots prepare {key} && {ctr} snapshots commit {name} {key} && {ctr} snapshots rm {name}"
                ));
                shell
            }
        };
        let silent = Stdio::null;
        command.stdin(silent()).stdout(silent()).stderr(silent());
        command.spawn().expect("a client can be run")
    }
}

fn ctr(stack: &Stack, args: &[&str]) -> Command {
    let mut command = stack.command(Path::new("ctr"));
    // Where the daemon is dead already, there is nothing to wait for.
    command.args(["--connect-timeout", "3s", "--address"]);
    command.arg(stack.socket()).args(args);
    command
}

/// The moment of a kill.
#[derive(Debug, Clone, Copy)]
enum Moment {
    After(Duration),
    /// The n-th call of one of [`CALLS`] by one thread.
    Call(&'static str, u64),
}

impl Moment {
    fn choose(random: &mut Random, longest: Duration) -> Self {
        if random.below(3) == 0 {
            let calls = CALLS[usize::try_from(random.below(6)).expect("below 6")];
            // Most of what happens once happens early.
            let most = [3, 12, 60, 300][usize::try_from(random.below(4)).expect("below 4")];
            return Self::Call(calls, 1 + random.below(most));
        }
        let micros = u64::try_from(longest.as_micros()).expect("a short time");
        Self::After(Duration::from_micros(random.below(micros)))
    }
}

/// Starts the daemon so that it dies by itself if `moment` is a call; false if
/// it came before the daemon served.
fn start(stack: &mut Stack, moment: Moment) -> bool {
    match moment {
        Moment::After(_) => {
            stack.start_daemon();
            true
        }
        Moment::Call(calls, nth) => stack.start_daemon_under(&[
            "strace",
            "--daemonize",
            "--follow-forks",
            "--seccomp-bpf",
            "--quiet=all",
            "--output=/dev/null",
            &format!("--trace={calls}"),
            &format!("--inject={calls}:signal=KILL:when={nth}"),
        ]),
    }
}

/// The daemon, the two images, and where in the run we are.
struct Scene {
    stack: Stack,
    root: PathBuf,
    // After the stack, whose end still uses it.
    _elsewhere: Option<TempDir>,
    subjects: Vec<Subject>,
    place: String,
}

impl Scene {
    fn prepare(seed: u64) -> (Self, Registry) {
        let mut stack = Stack::cold();
        let elsewhere = std::env::var("LITE_CRASH_DIR").ok().map(|dir| {
            let dir = tempfile::tempdir_in(dir);
            dir.expect("a directory can be made in LITE_CRASH_DIR")
        });
        if let Some(dir) = &elsewhere {
            stack = stack.rooted_at(dir.path().join("root"));
        }
        stack.start_daemon();
        let registry = Registry::start(stack.scratch());
        let root = stack.root().to_path_buf();
        let mut scene = Self {
            stack,
            root,
            _elsewhere: elsewhere,
            subjects: Vec::new(),
            place: format!("seed {seed}, the beginning"),
        };
        for (name, own) in [("one:1", 1), ("two:1", 10)] {
            let image = image(own);
            let scratch = scene.stack.scratch();
            registry.put(scratch, &image, name, &[]);
            let reference = registry.reference(name);
            let archive = scratch.text(&format!("{own}.tar"));
            fs::write(&archive, image.docker_archive(&[&reference])).expect("an archive");
            scene.stack.ctl(&["pull", &reference]).ok();
            let tree = scene.tree(&image);
            scene.subjects.push(Subject {
                image,
                reference,
                archive,
                tree,
                known: Known::Here,
                half_by_ctr: false,
            });
        }
        scene.check();
        (scene, registry)
    }

    /// The time that a pull of both takes.
    fn time_a_pull(&self) -> Duration {
        for subject in &self.subjects {
            self.stack.ctl(&["rmi", &subject.reference]).ok();
        }
        let begun = Instant::now();
        for subject in &self.subjects {
            self.stack.ctl(&["pull", &subject.reference]).ok();
        }
        begun.elapsed()
    }

    /// Mounts the topmost layer of `image` and reads all of it.
    fn tree(&self, image: &Image) -> String {
        let mut chain = String::new();
        for layer in &image.layers {
            let diff_id = image::digest(layer);
            chain = if chain.is_empty() {
                diff_id
            } else {
                image::digest(format!("{chain} {diff_id}").as_bytes())
            };
        }
        // Prepared, as ctr protects that from collection, and not a view.
        let at = self.stack.scratch().path("view");
        fs::create_dir_all(&at).expect("a directory");
        let target = at.display().to_string();
        self.stack
            .ctr(&["snapshots", "prepare", "looked-at", &chain])
            .ok();
        let mount = self
            .stack
            .ctr(&["snapshots", "mounts", &target, "looked-at"])
            .ok();
        command::run(Command::new("sh").args(["-c", &mount])).ok();
        let tree = fingerprint(&at);
        command::run(Command::new("umount").arg(&at)).ok();
        self.stack.ctr(&["snapshots", "rm", "looked-at"]).ok();
        tree
    }

    /// Holds the stores against the disk, and both against what is known.
    fn check(&mut self) {
        self.check_images();
        stores::agree_with_the_disk(&self.stack, &self.place);
    }

    fn check_images(&mut self) {
        let listed = self.stack.ctr(&["images", "ls", "-q"]).ok();
        let mut names: BTreeSet<&str> = listed.lines().collect();
        for subject in &mut self.subjects {
            let here = names.remove(subject.reference.as_str());
            let expected = match subject.known {
                Known::Here => true,
                Known::Gone => false,
                Known::Either => here,
            };
            let place = &self.place;
            assert_eq!(here, expected, "{} is listed ({place})", subject.reference);
            subject.known = if here { Known::Here } else { Known::Gone };
        }
        assert!(
            names.is_empty(),
            "images of no name: {names:?} ({})",
            self.place
        );
        for subject in &mut self.subjects {
            if subject.known == Known::Here && subject.half_by_ctr {
                self.stack.ctl(&["pull", &subject.reference]).ok();
                subject.half_by_ctr = false;
            }
        }
        let checked = self.stack.ctr(&["images", "check"]).ok();
        for line in checked.lines().skip(1) {
            let whole = line.contains("complete (") && line.contains("true");
            assert!(whole, "{}\n{checked}", self.place);
        }
        for subject in &self.subjects {
            if subject.known == Known::Here {
                let tree = self.tree(&subject.image);
                assert_eq!(tree, subject.tree, "files of an image ({})", self.place);
            }
        }
    }

    /// One kill, with two pieces of work under way.
    fn round(&mut self, random: &mut Random, longest: Duration) {
        let moment = Moment::choose(random, longest);
        let again = random.below(4) == 0;
        self.place = format!("{}, {moment:?}", self.place);
        self.stack.kill_daemon();
        if start(&mut self.stack, moment) {
            let mut working = Vec::new();
            for at in 0..self.subjects.len() {
                let work = Work::ALL[usize::try_from(random.below(6)).expect("below 6")];
                self.place = format!("{}, {work:?}", self.place);
                working.push((
                    at,
                    work,
                    work.start(&self.stack, &self.subjects[at], random.next()),
                ));
            }
            let patience = match moment {
                Moment::After(time) => {
                    std::thread::sleep(time);
                    self.stack.kill_daemon();
                    Duration::from_secs(1)
                }
                Moment::Call(..) => Duration::from_secs(5),
            };
            for (at, work, mut client) in working {
                // With a call as the moment, the daemon may outlive the work. A ctr
                // that has lost its daemon waits for the next one.
                let ended = command::wait(&mut client, patience);
                let done = ended.is_some_and(|status| status.success());
                if ended.is_none() {
                    client.kill().expect("a child can be killed");
                    client.wait().expect("a child can be waited for");
                }
                let subject = &mut self.subjects[at];
                subject.known = work.outcome(subject.known, done);
                subject.half_by_ctr = match work {
                    Work::PullByCtr => !done,
                    Work::Pull | Work::Load => subject.half_by_ctr && !done,
                    _ => subject.half_by_ctr,
                };
            }
            self.stack.kill_daemon();
        }
        if again {
            let calls = CALLS[usize::try_from(random.below(6)).expect("below 6")];
            start(&mut self.stack, Moment::Call(calls, 1 + random.below(30)));
            self.stack.kill_daemon();
        }
        self.stack.start_daemon();
        self.check();
    }
}

#[test]
fn whatever_the_moment_what_was_done_is_whole_and_nothing_is_left() {
    if need::skip(&[Need::Containerd, Need::Registry, Need::Strace]) {
        return;
    }
    let seed = number("LITE_CRASH_SEED", 1);
    let rounds = number("LITE_CRASH_ROUNDS", ROUNDS);
    println!("seed {seed}, {rounds} rounds");
    let mut random = Random::new(seed);
    let (mut scene, _registry) = Scene::prepare(seed);
    let longest = scene.time_a_pull();
    for round in 0..rounds {
        scene.place = format!("seed {seed}, round {round}");
        scene.round(&mut random, longest);
        if round % 100 == 99 {
            println!("{} kills", round + 1);
        }
    }
    scene.place = format!("seed {seed}, the end");
    for subject in &mut scene.subjects {
        scene.stack.ctl(&["pull", &subject.reference]).ok();
        subject.known = Known::Here;
    }
    scene.check();
    // Those that ctr took for its pulls are its own to end, within a day.
    let leases = scene.stack.ctr(&["leases", "ls"]).ok();
    for row in rows(&leases) {
        assert!(
            !leases.contains("containerd-lite/"),
            "a lease of ours\n{leases}"
        );
        if row[0] != "builder-cache" {
            scene.stack.ctr(&["leases", "rm", row[0]]).ok();
        }
    }
    for subject in &scene.subjects {
        scene.stack.ctl(&["rmi", &subject.reference]).ok();
    }
    // Commits that were hit half-way; ctr protects its snapshots from collection.
    let snapshots = scene.stack.ctr(&["snapshots", "ls"]).ok();
    for row in rows(&snapshots) {
        if row[0].starts_with("key") || row[0].starts_with("name") {
            scene.stack.ctr(&["snapshots", "rm", row[0]]).ok();
        }
    }
    let left = || -> Vec<String> {
        let dirs = ["content/blobs/sha256", "content/ingest", "snapshots"];
        dirs.iter()
            .flat_map(|dir| entries(&scene.root.join(dir)).into_keys())
            .collect()
    };
    for _ in 0..200 {
        if left().is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let said = [
        &["content", "ls"],
        &["content", "active"],
        &["snapshots", "ls"],
        &["leases", "ls"],
    ]
    .map(|list| scene.stack.ctr(list).ok());
    panic!(
        "left after everything was removed: {:?}\n{}",
        left(),
        said.join("\n")
    );
}
