//! An OCI bundle as `runc spec` makes it, with busybox as its root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::command;
use crate::image;
use crate::scratch::Scratch;

/// A bundle directory: `config.json` and `rootfs`.
pub struct Bundle {
    dir: PathBuf,
}

impl Bundle {
    /// Makes one in the test's directory, without a terminal, its cgroup
    /// below the test's own.
    ///
    /// # Panics
    /// When runc is not there or fails.
    #[must_use]
    pub fn new(scratch: &Scratch, name: &str) -> Self {
        let dir = scratch.path(name);
        let rootfs = dir.join("rootfs");
        fs::create_dir_all(&rootfs).expect("a bundle can be made");
        let mut tar = Command::new("tar");
        command::run_with_input(
            tar.args(["xf", "-", "-C"]).arg(&rootfs),
            &image::busybox_layer(),
        )
        .ok();
        command::run(Command::new("runc").args(["spec", "--bundle"]).arg(&dir)).ok();
        let bundle = Self { dir };
        bundle.edit(|config| {
            config["process"]["terminal"] = json!(false);
            config["linux"]["cgroupsPath"] = json!(format!("/{}/{name}", scratch.name()));
        });
        bundle
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its directory as text, for a command line.
    #[must_use]
    pub fn text(&self) -> String {
        self.dir.display().to_string()
    }

    /// Changes its configuration.
    ///
    /// # Panics
    /// When config.json is not there.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        let path = self.dir.join("config.json");
        let text = fs::read(&path).expect("config.json can be read");
        let mut config: Value = serde_json::from_slice(&text).expect("runc spec writes JSON");
        change(&mut config);
        fs::write(path, config.to_string()).expect("config.json can be written");
    }

    /// Sets the command line that the container runs.
    #[must_use]
    pub fn running(self, args: &[&str]) -> Self {
        self.edit(|config| config["process"]["args"] = json!(args));
        self
    }
}
