//! Stopping all processes of a group, and letting them go on.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::group::{Cgroup, read, write};
use crate::{Error, Layout, Result};

/// How long the processes of a group may take to reach the frozen state.
const FREEZE_PATIENCE: Duration = Duration::from_secs(5);

/// How a hierarchy spells it.
struct Switch {
    file: PathBuf,
    value: &'static str,
    thaw: &'static str,
    /// Where the outcome shows, and the line that says so.
    outcome: PathBuf,
    done: &'static str,
}

impl Cgroup {
    fn switch(&self, on: bool) -> Result<Switch> {
        match self.layout() {
            Layout::V2 => {
                let dir = self.dir("").unwrap_or("".as_ref());
                Ok(Switch {
                    file: dir.join("cgroup.freeze"),
                    value: if on { "1" } else { "0" },
                    thaw: "0",
                    outcome: dir.join("cgroup.events"),
                    done: if on { "frozen 1" } else { "frozen 0" },
                })
            }
            Layout::V1 { .. } => {
                let dir = self
                    .dir("freezer")
                    .ok_or_else(|| Error::refused("freeze: no freezer controller"))?;
                let value = if on { "FROZEN" } else { "THAWED" };
                Ok(Switch {
                    file: dir.join("freezer.state"),
                    value,
                    thaw: "THAWED",
                    outcome: dir.join("freezer.state"),
                    done: value,
                })
            }
        }
    }

    /// Stops (`true`) or continues every process of the group, and waits until they are stopped.
    ///
    /// # Errors
    /// If there is no freezer, or the processes do not stop within five seconds.
    pub fn freeze(&self, on: bool) -> Result<()> {
        let switch = self.switch(on)?;
        let deadline = Instant::now() + FREEZE_PATIENCE;
        loop {
            // On v1 a process that forks meanwhile needs the write again.
            write(&switch.file, switch.value)?;
            if read(&switch.outcome)?
                .lines()
                .any(|line| line == switch.done)
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                if on {
                    write(&switch.file, switch.thaw)?;
                }
                return Err(Error::refused(format!(
                    "freeze {}: processes did not stop",
                    switch.file.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the group is frozen, or about to be. No freezer: no.
    ///
    /// # Errors
    /// If the group is there but cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        let (file, thawed) = match self.layout() {
            Layout::V2 => (self.dir("").map(|d| d.join("cgroup.freeze")), "0"),
            Layout::V1 { .. } => (
                self.dir("freezer").map(|d| d.join("freezer.state")),
                "THAWED",
            ),
        };
        match file.map(|file| fs::read_to_string(&file).map_err(|e| (file, e))) {
            None => Ok(false),
            Some(Ok(text)) => Ok(text.trim() != thawed),
            Some(Err((_, e))) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            // The group is removed between the opening and the reading.
            Some(Err((_, e))) if e.raw_os_error() == Some(nix::libc::ENODEV) => Ok(false),
            Some(Err((file, e))) => Err(Error::new(format!("read {}", file.display()), e)),
        }
    }
}
