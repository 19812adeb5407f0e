//! A real registry on loopback: Debian's docker-registry, filled by skopeo.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::command::{self, eventually};
use crate::image::Image;
use crate::scratch::Scratch;

/// Who a guarded registry lets in.
pub const USER: &str = "me";
/// The password of [`USER`].
pub const PASSWORD: &str = "secret";

/// A running registry that stores below its test's directory.
pub struct Registry {
    process: Child,
    address: String,
    storage: PathBuf,
}

impl Registry {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(scratch: &Scratch) -> Self {
        Self::configured(scratch, &serde_json::Value::Null)
    }

    /// Starts one that lets in nobody but the user [`USER`] with the password
    /// [`PASSWORD`].
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn guarded(scratch: &Scratch) -> Self {
        let users = scratch.path("htpasswd");
        // The password's hash by bcrypt, which is all that the registry takes.
        let line = format!("{USER}:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n");
        fs::write(&users, line).expect("the registry's users can be written");
        let auth = serde_json::json!({"htpasswd": {"realm": "test", "path": users}});
        Self::configured(scratch, &auth)
    }

    fn configured(scratch: &Scratch, auth: &serde_json::Value) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.expect("there is a free port").to_string();
        let storage = scratch.path("registry");
        let config = scratch.path("registry.json");
        // JSON is YAML.
        let mut text = serde_json::json!({
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": storage}},
            "http": {"addr": address},
        });
        if !auth.is_null() {
            text["auth"] = auth.clone();
        }
        fs::write(&config, text.to_string()).expect("the registry's configuration can be written");
        let log = fs::File::create(scratch.path("registry.log")).expect("its log can be written");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor can be copied"))
            .stderr(log)
            .spawn();
        let process = process.expect("docker-registry can be run");
        let registry = Self {
            process,
            address,
            storage,
        };
        eventually("the registry", || {
            TcpStream::connect(&registry.address).ok()
        });
        registry
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `host:port/name`, as a reference for pull.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Puts `image` there as `name` (`repository:tag`) with skopeo and these
    /// further arguments of `skopeo copy`; returns the manifest's digest.
    ///
    /// # Panics
    /// When skopeo fails.
    #[track_caller]
    pub fn put(&self, scratch: &Scratch, image: &Image, name: &str, args: &[&str]) -> String {
        let archive = scratch.text("put.tar");
        fs::write(&archive, image.docker_archive(&["put:latest"]))
            .expect("an archive can be written");
        self.copy(scratch, &format!("docker-archive:{archive}"), name, args)
    }

    /// Puts a large `image` there, however long that takes.
    ///
    /// # Panics
    /// As [`Registry::put`].
    pub fn put_slowly(&self, scratch: &Scratch, image: &Image, name: &str) -> String {
        let archive = scratch.text("put.tar");
        fs::write(&archive, image.docker_archive(&["put:latest"]))
            .expect("an archive can be written");
        let (mut skopeo, digest) =
            self.skopeo(scratch, &format!("docker-archive:{archive}"), name, &[]);
        let status = skopeo.status().expect("skopeo can be run");
        assert!(status.success(), "skopeo ended with {status}");
        drop(fs::remove_file(archive));
        read_digest(&digest)
    }

    /// Puts there what `source` is in skopeo's words; see [`Registry::put`].
    ///
    /// # Panics
    /// When skopeo fails.
    #[track_caller]
    pub fn copy(&self, scratch: &Scratch, source: &str, name: &str, args: &[&str]) -> String {
        let (mut skopeo, digest) = self.skopeo(scratch, source, name, args);
        command::run(&mut skopeo).ok();
        read_digest(&digest)
    }

    fn skopeo(
        &self,
        scratch: &Scratch,
        source: &str,
        name: &str,
        args: &[&str],
    ) -> (Command, PathBuf) {
        let digest = scratch.path("put.digest");
        let mut skopeo = Command::new("skopeo");
        skopeo
            .args([
                "--insecure-policy",
                "copy",
                "--quiet",
                "--dest-tls-verify=false",
                "--digestfile",
            ])
            .arg(&digest)
            .args(args)
            .args([source, &format!("docker://{}", self.reference(name))]);
        (skopeo, digest)
    }

    /// The manifest that the registry has under `repository` and `digest`.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn manifest(&self, digest: &str) -> serde_json::Value {
        let text = fs::read(self.blob(digest)).expect("the registry stores the manifest");
        serde_json::from_slice(&text).expect("a manifest is JSON")
    }

    /// The file in which the registry keeps a blob or manifest.
    ///
    /// # Panics
    /// When `digest` is not a SHA-256.
    #[must_use]
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a sha256 digest");
        self.storage.join(format!(
            "docker/registry/v2/blobs/sha256/{}/{hex}/data",
            &hex[..2]
        ))
    }

    /// Ends it, as a registry that goes away.
    pub fn stop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn read_digest(file: &std::path::Path) -> String {
    let text = fs::read_to_string(file).expect("skopeo wrote the digest");
    text.trim().to_owned()
}
