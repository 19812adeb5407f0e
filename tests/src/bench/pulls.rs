//! The contests around images and what a daemon holds: pulls of an image of a
//! gigabyte from one local registry, the bound that decompressing and hashing
//! sets, memory, and a daemon with much in its stores.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::contest::{Contest, Contestant, Unit, succeed, timed};
use crate::command::eventually;
use crate::containerd::Containerd;
use crate::image::Image;
use crate::registry::Registry;
use crate::scratch::Scratch;
use crate::stack::Stack;

/// Layers of the large image.
const LAYERS: usize = 8;

/// Each has at least so many bytes of files, so that all have a gigabyte.
const LAYER_BYTES: u64 = 128 << 20;

/// Who pulls from what.
pub struct Pulls {
    stack: Stack,
    containerd: Containerd,
    registry: Registry,
    reference: String,
    blobs: Vec<PathBuf>,
    _scratch: Scratch,
}

impl Pulls {
    /// Fills a registry with an image of the files of Debian packages.
    ///
    /// # Panics
    /// When that cannot be done.
    #[must_use]
    pub fn prepare() -> Self {
        let scratch = Scratch::new();
        let stack = Stack::start();
        let containerd = Containerd::start(&scratch);
        let registry = Registry::start(&scratch);
        let image = Image {
            layers: layers_of_packages(),
            config: serde_json::json!({"Cmd": ["true"]}),
        };
        let digest = registry.put_slowly(&scratch, &image, "packages:1");
        let manifest = registry.manifest(&digest);
        let layers = manifest["layers"].as_array().expect("layers");
        let blobs = layers
            .iter()
            .map(|layer| registry.blob(layer["digest"].as_str().expect("a digest")))
            .collect();
        let reference = registry.reference("packages:1");
        Self {
            stack,
            containerd,
            registry,
            reference,
            blobs,
            _scratch: scratch,
        }
    }

    /// Sizes, for the reader of the table.
    ///
    /// # Panics
    /// When the registry has lost a blob.
    #[must_use]
    pub fn described(&self) -> String {
        let stored: u64 = self
            .blobs
            .iter()
            .map(|blob| fs::metadata(blob).expect("a blob").len())
            .sum();
        format!(
            "image: {} layers of Debian packages, {} MiB compressed, from {}\n",
            self.blobs.len(),
            stored >> 20,
            self.registry.address()
        )
    }

    fn pull_ours(&self) {
        succeed(&mut self.stack.ctl_command(&["pull", "-q", &self.reference]));
    }

    fn pull_theirs(&self) {
        let args = ["images", "pull", "--plain-http", &self.reference];
        succeed(&mut self.containerd.ctr_command(&args));
    }

    fn remove_ours(&self) {
        self.stack.ctl(&["rmi", &self.reference]).ok();
    }

    fn remove_theirs(&self) {
        let args = ["images", "rm", "--sync", &self.reference];
        self.containerd.ctr(&args).ok();
    }

    /// Pull and unpack, beside the bound of both processors.
    #[must_use]
    pub fn whole(&self) -> Contest<'_> {
        let ours = Contestant {
            name: "ctl pull",
            round: Box::new(|_| {
                let took = timed(|| self.pull_ours());
                self.remove_ours();
                took
            }),
        };
        let theirs = Contestant {
            name: "ctr, containerd",
            round: Box::new(|_| {
                let took = timed(|| self.pull_theirs());
                self.remove_theirs();
                took
            }),
        };
        let bound = Contestant {
            name: "gunzip and hash",
            round: Box::new(|_| timed(|| decompress_and_hash(&self.blobs))),
        };
        Contest {
            title: "pull and unpack 1 GB in 8 layers",
            unit: Unit::Milliseconds,
            rounds: 5,
            warm_up: 1,
            contestants: vec![ours, theirs, bound],
        }
    }

    /// A pull of what is there. Both have the image afterwards.
    #[must_use]
    pub fn nothing_to_do(&self) -> Contest<'_> {
        self.pull_ours();
        self.pull_theirs();
        Contest {
            title: "pull of an image that is all there",
            unit: Unit::Milliseconds,
            rounds: 20,
            warm_up: 2,
            contestants: vec![
                Contestant {
                    name: "ctl pull",
                    round: Box::new(|_| timed(|| self.pull_ours())),
                },
                Contestant {
                    name: "ctr, containerd",
                    round: Box::new(|_| timed(|| self.pull_theirs())),
                },
            ],
        }
    }

    /// What the daemons hold before the first pull.
    #[must_use]
    pub fn idle_memory(&self) -> Contest<'_> {
        memory_contest(
            "RSS of an idle daemon",
            "VmRSS:",
            self.stack.daemon_pid(),
            self.containerd.pid(),
        )
    }

    /// The most memory that a daemon ever had, which pulls have set.
    #[must_use]
    pub fn peak_memory(&self) -> Contest<'_> {
        memory_contest(
            "peak RSS of the daemon after these pulls",
            "VmHWM:",
            self.stack.daemon_pid(),
            self.containerd.pid(),
        )
    }
}

fn memory_contest(
    title: &'static str,
    line: &'static str,
    ours: u32,
    theirs: u32,
) -> Contest<'static> {
    let contestant = |name, pid| Contestant {
        name,
        round: Box::new(move |_| status_kib(pid, line)),
    };
    Contest {
        title,
        unit: Unit::Kibibytes,
        rounds: 1,
        warm_up: 0,
        contestants: vec![
            contestant("containerd-lite", ours),
            contestant("containerd", theirs),
        ],
    }
}

fn status_kib(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon lives");
    let line = status.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1))
        .and_then(|number| number.parse().ok())
        .expect("its memory")
}

/// Tars of the files that installed packages consist of, in the packages' order.
fn layers_of_packages() -> Vec<Vec<u8>> {
    let mut lists: Vec<PathBuf> = fs::read_dir("/var/lib/dpkg/info")
        .expect("packages are installed")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "list"))
        .collect();
    lists.sort();
    let mut layers = Vec::new();
    let (mut names, mut bytes) = (String::new(), 0);
    for list in lists {
        for name in fs::read_to_string(&list).unwrap_or_default().lines() {
            // What the machine uses itself may change while it is packed.
            let found = fs::symlink_metadata(name);
            let Ok(found) = found else { continue };
            if !name.starts_with("/usr/") || found.is_dir() {
                continue;
            }
            names.push_str(name);
            names.push('\n');
            bytes += found.len();
        }
        if bytes >= LAYER_BYTES {
            layers.push(tar_of(&std::mem::take(&mut names)));
            bytes = 0;
        }
        if layers.len() == LAYERS {
            break;
        }
    }
    assert_eq!(layers.len(), LAYERS, "fewer packages than the image needs");
    layers
}

fn tar_of(names: &str) -> Vec<u8> {
    let mut list = tempfile::NamedTempFile::new().expect("a list");
    io::Write::write_all(&mut list, names.as_bytes()).expect("a list");
    let out = Command::new("tar")
        .args([
            "--create",
            "--no-recursion",
            "--absolute-names",
            "--files-from",
        ])
        .arg(list.path())
        .args(["--transform", "s,^/,,"])
        .stderr(Stdio::inherit())
        .output()
        .expect("tar can be run");
    assert!(out.status.success(), "tar ended with {}", out.status);
    out.stdout
}

/// The least that has to be computed for a pull: each layer is hashed,
/// decompressed and hashed again, on as many threads as there are processors.
fn decompress_and_hash(blobs: &[PathBuf]) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let left = Mutex::new(blobs.iter());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = left.lock().expect("no panic").next();
                    let Some(blob) = next else { return };
                    hash_layer(blob);
                }
            });
        }
    });
}

fn hash_layer(blob: &Path) {
    let bytes = fs::read(blob).expect("a blob");
    let mut digests = [Sha256::digest(&bytes).to_vec(), Vec::new()];
    let mut plain = flate2::read::GzDecoder::new(bytes.as_slice());
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        let read = plain.read(&mut buffer).expect("gzip");
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    digests[1] = hasher.finalize().to_vec();
    std::hint::black_box(digests);
}

/// Records in a store that has many.
const MANY: usize = 1000;

/// Blobs that a collection takes away.
const GARBAGE: usize = 10_000;

/// A daemon of ours with a thousand images and containers.
pub struct Full {
    stack: Mutex<Stack>,
}

impl Full {
    /// Fills one.
    ///
    /// # Panics
    /// When that cannot be done.
    #[must_use]
    pub fn prepare() -> Self {
        let stack = Stack::with_busybox();
        let socket = stack.socket().display().to_string();
        let name = "docker.io/library/busybox:latest";
        // One shell, or starting programs is all that is measured here.
        let script = format!(
            "set -e; i=0; while [ $i -lt {MANY} ]; do \
             ctr -a {socket} images tag {name} docker.io/library/many:$i >/dev/null; \
             ctr -a {socket} containers create {name} many$i >/dev/null; i=$((i+1)); done"
        );
        succeed(Command::new("sh").args(["-c", &script]));
        Self {
            stack: Mutex::new(stack),
        }
    }

    /// From the start of the program to its first answer.
    #[must_use]
    pub fn start(&self) -> Contest<'_> {
        let round = |_| {
            let mut stack = self.stack.lock().expect("no panic");
            stack.stop_daemon();
            let begun = Instant::now();
            stack.start_daemon();
            stack.ctl(&["version"]).ok();
            begun.elapsed().as_secs_f64() * 1000.0
        };
        self.contest(
            "start to the first answer, 1,000 images and containers",
            10,
            "containerd-lite, ctl",
            round,
        )
    }

    /// `ctr containers ls`.
    #[must_use]
    pub fn list(&self) -> Contest<'_> {
        let round = |_| {
            let stack = self.stack.lock().expect("no panic");
            timed(|| {
                stack.ctr(&["containers", "ls", "-q"]).ok();
            })
        };
        self.contest("list of 1,000 containers", 20, "ctr containers ls", round)
    }

    /// What `ctr` takes by itself, to be taken off the list.
    #[must_use]
    pub fn floor(&self) -> Contest<'_> {
        let round = |_| {
            let stack = self.stack.lock().expect("no panic");
            timed(|| {
                stack.ctr(&["containers", "ls", "-q", "id==none"]).ok();
            })
        };
        self.contest("list of none of them", 20, "ctr containers ls", round)
    }

    /// A collection that takes ten thousand blobs.
    #[must_use]
    pub fn collection(&self) -> Contest<'_> {
        let round = |round: usize| {
            let stack = self.stack.lock().expect("no panic");
            let archive = stack.scratch().path("garbage.tar");
            fs::write(&archive, garbage(round)).expect("an archive");
            let text = archive.display().to_string();
            stack
                .ctr(&["images", "import", "--no-unpack", "--all-platforms", &text])
                .ok();
            let name = format!("docker.io/library/garbage:{round}");
            eventually("the image", || {
                stack
                    .ctr(&["images", "ls", "-q"])
                    .ok()
                    .contains(&name)
                    .then_some(())
            });
            timed(|| {
                stack.ctr(&["images", "rm", "--sync", &name]).ok();
            })
        };
        self.contest(
            "collection of 10,000 blobs",
            3,
            "ctr images rm --sync",
            round,
        )
    }

    fn contest<'a>(
        &self,
        title: &'static str,
        rounds: usize,
        name: &'static str,
        round: impl FnMut(usize) -> f64 + 'a,
    ) -> Contest<'a> {
        Contest {
            title,
            unit: Unit::Milliseconds,
            rounds,
            warm_up: 1,
            contestants: vec![Contestant {
                name,
                round: Box::new(round),
            }],
        }
    }
}

/// An image with ten thousand layers of a few bytes each.
fn garbage(round: usize) -> Vec<u8> {
    let layers = (0..GARBAGE)
        .map(|layer| format!("{round} {layer}").into_bytes())
        .collect();
    let image = Image {
        layers,
        config: serde_json::json!({}),
    };
    image.oci_layout(&format!("docker.io/library/garbage:{round}"))
}
