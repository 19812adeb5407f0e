//! The power goes: of all that the daemon has written, only what it has synced is
//! left, and of the rest whatever chance wants. What was acknowledged is there and
//! whole; the rest is whole or gone.

use std::fs;

use tests::command::eventually;
use tests::image::Image;
use tests::need::{self, Need};
use tests::registry::Registry;
use tests::stack::Stack;
use tests::stores;
use tests::tar::Tar;
use tests::write_log::{self, Call, Disk};

/// Cuts in the middle of the log, in one run of the test.
const CUTS: usize = 12;

fn image(word: &str) -> Image {
    let mut top = Tar::new().file("word", 0o644, word.as_bytes());
    for number in 0..10 {
        let dir = format!("{word}{number}");
        top = top.dir(&dir, 0o755);
        top = top.file(&format!("{dir}/file"), 0o644, &[7; 5000]);
    }
    Image::busybox().layer(top)
}

/// A daemon that was killed after three pieces of work: an import, a pull, and
/// the removal of what was imported.
struct Story {
    // First: its program must have ended when the stack looks for litter.
    _registry: Registry,
    stack: Stack,
    calls: Vec<Call>,
    pulled: String,
}

impl Story {
    fn tell() -> Self {
        let mut stack = Stack::cold();
        // Its names in the log begin with this.
        fs::create_dir(stack.root()).expect("a directory");
        let log = stack.scratch().text("calls.log");
        let registry = Registry::start(stack.scratch());
        registry.put(stack.scratch(), &image("pulled"), "pulled:1", &[]);
        let pulled = registry.reference("pulled:1");
        let tracer: Vec<&str> = write_log::TRACE.into_iter().chain([log.as_str()]).collect();
        assert!(stack.start_daemon_under(&tracer));
        let loaded = image("loaded").docker_archive(&["loaded:1"]);
        stack.ctl_with_input(&["load"], &loaded).ok();
        stack.ctl(&["pull", "-q", &pulled]).ok();
        stack.ctl(&["rmi", "loaded:1"]).ok();
        let daemon = stack.daemon_pid();
        stack.kill_daemon();
        let daemon = daemon.to_string();
        // Short numbers of processes are padded.
        let is_end = |line: &str| {
            line.split_once(' ').is_some_and(|(pid, what)| {
                pid == daemon && what.trim_start() == "+++ killed by SIGKILL +++"
            })
        };
        let text = eventually("the end of the log", || {
            let text = fs::read(&log).ok()?;
            let text = String::from_utf8_lossy(&text).into_owned();
            text.lines().rev().take(80).any(is_end).then_some(text)
        });
        Self {
            calls: write_log::calls(&text),
            stack,
            pulled,
            _registry: registry,
        }
    }

    /// Starts a daemon on what a cut after `count` calls leaves.
    fn cut(mut self, count: usize, place: &str, chance: impl FnMut() -> bool) -> Self {
        let original = self.stack.scratch().path("r");
        let mut disk = Disk::new(&original);
        for call in &self.calls[..count] {
            disk.replay(call);
        }
        let left = self.stack.scratch().path("left");
        drop(fs::remove_dir_all(&left));
        disk.write_to(&left, chance);
        self.stack = self.stack.rooted_at(left);
        self.stack.start_daemon();
        stores::agree_with_the_disk(&self.stack, place);
        let checked = self.stack.ctr(&["images", "check"]).ok();
        for line in checked.lines().skip(1) {
            let whole = line.contains("complete (") && line.contains("true");
            assert!(whole, "{place}\n{checked}");
        }
        self
    }

    fn images(&self) -> String {
        self.stack.ctr(&["images", "ls", "-q"]).ok()
    }
}

#[test]
fn what_was_acknowledged_outlives_a_power_cut() {
    if need::skip(&[Need::Containerd, Need::Registry, Need::Strace]) {
        return;
    }
    let story = Story::tell();
    let count = story.calls.len();
    let story = story.cut(count, "everything was acknowledged", || false);
    assert_eq!(story.images().trim(), story.pulled);
    let run = ["run", "--rm", &story.pulled, "cat", "/word"];
    assert_eq!(story.stack.ctl(&run).ok(), "pulled");
}

#[test]
fn a_power_cut_at_any_time_leaves_images_whole_or_gone() {
    if need::skip(&[Need::Containerd, Need::Registry, Need::Strace]) {
        return;
    }
    let mut story = Story::tell();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for cut in 1..=CUTS {
        let count = story.calls.len() * cut / (CUTS + 1);
        // Every other one keeps some of what it need not.
        let some = cut % 2 == 0;
        let place = format!("cut {cut} after {count} calls");
        story = story.cut(count, &place, || some && next() & 4 == 0);
        story.stack.ctl(&["pull", "-q", &story.pulled]).ok();
        let run = ["run", "--rm", &story.pulled, "cat", "/word"];
        assert_eq!(story.stack.ctl(&run).ok(), "pulled", "{place}");
        story.stack.kill_daemon();
    }
}
