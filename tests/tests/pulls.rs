//! Pulls that are interrupted go on where they were: no byte of a blob comes
//! twice, whatever broke it off, and one download serves all who want it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::command::{self, eventually};
use tests::image::Image;
use tests::need::{self, Need};
use tests::proxy::{Proxy, Then};
use tests::registry::Registry;
use tests::stack::Stack;
use tests::tar::Tar;

/// Bytes that do not compress, others for each layer.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next)
        .take(len / 8)
        .flatten()
        .collect()
}

/// A daemon and a registry behind a counter, with an image of three large layers.
struct Scene {
    // First: its program must have ended when the stack looks for litter.
    _registry: Registry,
    stack: Stack,
    proxy: Proxy,
    reference: String,
    /// The size of each blob that a pull needs.
    blobs: BTreeMap<String, u64>,
}

impl Scene {
    fn start() -> Self {
        let stack = Stack::start();
        let registry = Registry::start(stack.scratch());
        let mut image = Image::busybox();
        for layer in 1..=3 {
            let bytes = noise(layer, 1 << 20);
            image = image.layer(Tar::new().file(&format!("noise{layer}"), 0o644, &bytes));
        }
        let digest = registry.put(stack.scratch(), &image, "large:1", &[]);
        let manifest = registry.manifest(&digest);
        let layers = manifest["layers"].as_array().expect("layers").iter();
        let blobs = layers
            .chain([&manifest["config"]])
            .map(|blob| {
                let digest = blob["digest"].as_str().expect("a digest").to_owned();
                (digest, blob["size"].as_u64().expect("a size"))
            })
            .collect();
        let proxy = Proxy::start(registry.address());
        Self {
            reference: proxy.reference("large:1"),
            stack,
            proxy,
            blobs,
            _registry: registry,
        }
    }

    /// Of all blobs together.
    fn total(&self) -> u64 {
        self.blobs.values().sum()
    }

    fn begin_pull(&self) -> Child {
        let mut pull = self.stack.ctl_command(&["pull", "-q", &self.reference]);
        let pull = pull.stdin(Stdio::null()).stdout(Stdio::null());
        pull.spawn().expect("ctl can be run")
    }

    /// A pull that hears nothing more after `bytes`, which are all stored.
    fn pull_until(&self, bytes: u64) -> Child {
        self.proxy.limit(bytes, Then::Silence);
        let pull = self.begin_pull();
        let root = self.stack.root();
        eventually("what was sent to be stored", || {
            let blobs = self.blobs.keys().map(|digest| {
                let name = digest.trim_start_matches("sha256:");
                size(&root.join("content/blobs/sha256").join(name))
            });
            let ingests = fs::read_dir(root.join("content/ingest")).expect("the ingests");
            let ingests = ingests.flatten().map(|entry| size(&entry.path()));
            (blobs.chain(ingests).sum::<u64>() >= bytes).then_some(())
        });
        pull
    }

    /// Collects everything that nobody holds.
    fn collect(&self) {
        self.stack.ctr(&["leases", "create", "--id", "x"]).ok();
        self.stack.ctr(&["leases", "rm", "--sync", "x"]).ok();
    }

    /// Pulls what is missing, and holds what came against what was needed.
    #[track_caller]
    fn pull_the_rest(&self) {
        self.proxy.go_on();
        self.stack.ctl(&["pull", "-q", &self.reference]).ok();
        assert_eq!(self.proxy.sent(), self.blobs, "bytes sent of each blob");
        let count = "cat /noise1 /noise2 /noise3 | wc -c";
        let said = self
            .stack
            .ctl(&["run", "--rm", &self.reference, "sh", "-c", count]);
        assert_eq!(said.ok().trim(), (3 << 20).to_string());
    }
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |found| found.len())
}

#[test]
fn a_pull_that_is_cut_goes_on() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let scene = Scene::start();
    scene.proxy.limit(scene.total() / 2, Then::Cut);
    scene.stack.ctl(&["pull", "-q", &scene.reference]).ok();
    let asked = scene.proxy.asked().values().sum::<u64>();
    assert!(asked > scene.blobs.len() as u64, "it was cut: {asked}");
    scene.pull_the_rest();
}

#[test]
fn a_pull_that_the_user_breaks_off_is_taken_up() {
    if need::skip(&[Need::Registry, Need::Containerd]) {
        return;
    }
    let scene = Scene::start();
    let mut pull = scene.pull_until(scene.total() / 2);
    kill(Pid::from_raw(pull.id().cast_signed()), Signal::SIGINT).expect("ctl runs");
    let status = command::wait(&mut pull, command::DEADLINE).expect("ctl ends");
    assert!(!status.success(), "{status}");
    // The daemon hears of it a moment later; then nobody writes any more.
    eventually("the pull to be over", || {
        let leases = scene.stack.ctr(&["leases", "ls"]).ok();
        leases.contains("interrupted-pull").then_some(())
    });
    scene.collect();
    scene.pull_the_rest();
    let leases = scene.stack.ctr(&["leases", "ls"]).ok();
    assert!(!leases.contains("pull"), "{leases}");
}

#[test]
fn a_pull_outlives_the_daemon_that_is_killed() {
    if need::skip(&[Need::Registry, Need::Containerd]) {
        return;
    }
    let mut scene = Scene::start();
    let mut pull = scene.pull_until(scene.total() / 2);
    scene.stack.kill_daemon();
    command::wait(&mut pull, command::DEADLINE).expect("ctl ends with its daemon");
    scene.stack.start_daemon();
    scene.collect();
    scene.pull_the_rest();
}

#[test]
fn a_pull_outlives_the_daemon_that_is_stopped() {
    if need::skip(&[Need::Registry, Need::Containerd]) {
        return;
    }
    let mut scene = Scene::start();
    let mut pull = scene.pull_until(scene.total() / 3);
    scene.stack.stop_daemon();
    command::wait(&mut pull, command::DEADLINE).expect("ctl ends with its daemon");
    scene.stack.start_daemon();
    scene.collect();
    scene.pull_the_rest();
}

#[test]
fn an_image_that_is_removed_takes_an_interrupted_pull_with_it() {
    if need::skip(&[Need::Registry, Need::Containerd]) {
        return;
    }
    let mut scene = Scene::start();
    let mut pull = scene.pull_until(scene.total() / 2);
    scene.stack.kill_daemon();
    command::wait(&mut pull, command::DEADLINE).expect("ctl ends with its daemon");
    scene.stack.start_daemon();
    scene.pull_the_rest();
    scene.stack.ctl(&["rmi", &scene.reference]).ok();
    scene.collect();
    for dir in ["content/blobs/sha256", "content/ingest", "snapshots"] {
        let dir = scene.stack.root().join(dir);
        let left = fs::read_dir(&dir).expect("a directory").count();
        assert_eq!(left, 0, "{}", dir.display());
    }
}

#[test]
fn one_download_serves_all_who_want_it() {
    if need::skip(&[Need::Registry, Need::Containerd]) {
        return;
    }
    let scene = Scene::start();
    let first = scene.pull_until(scene.total() / 2);
    let others: Vec<Child> = (0..3).map(|_| scene.begin_pull()).collect();
    eventually("all of them to be at work", || {
        let leases = scene.stack.ctr(&["leases", "ls"]).ok();
        (leases.matches("containerd-lite/pull=").count() == 4).then_some(())
    });
    scene.proxy.go_on();
    for mut pull in std::iter::once(first).chain(others) {
        let status = command::wait(&mut pull, command::DEADLINE).expect("ctl ends");
        assert!(status.success(), "{status}");
    }
    assert_eq!(scene.proxy.sent(), scene.blobs, "bytes sent of each blob");
}
