//! A docker-archive with one image of one layer: busybox and account files.

use lite_core::Digest;
use serde_json::json;

/// The commands the image has, as links to busybox.
const COMMANDS: [&str; 17] = [
    "sh", "cat", "echo", "env", "false", "hostname", "id", "kill", "ls", "mount", "ps", "sleep",
    "stty", "true", "tty", "wc", "yes",
];

/// The bytes of the archive; the image's name in it is `busybox:latest`.
pub(crate) fn busybox() -> Vec<u8> {
    let layer = layer();
    let config = json!({
        "architecture": lite_core::Platform::host().architecture,
        "os": "linux",
        "created": "2024-01-02T03:04:05Z",
        "config": { "Env": ["PATH=/bin:/usr/bin", "FROM_IMAGE=1"], "Cmd": ["sh"], "WorkingDir": "/work" },
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer).as_str()] },
        "history": [{ "created": "2024-01-02T03:04:05Z", "created_by": "test" }],
    })
    .to_string();
    let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let manifest =
        json!([{ "Config": config_name, "RepoTags": ["busybox:latest"], "Layers": ["layer.tar"] }]);
    let mut tar = Tar::default();
    tar.file(&config_name, 0o644, config.as_bytes());
    tar.file("layer.tar", 0o644, &layer);
    tar.file("manifest.json", 0o644, manifest.to_string().as_bytes());
    tar.finish()
}

fn layer() -> Vec<u8> {
    let busybox =
        std::fs::read("/bin/busybox").expect("/bin/busybox, from the package busybox-static");
    let mut tar = Tar::default();
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp", "work"] {
        tar.entry(dir, b'5', 0o755, "", &[]);
    }
    tar.file("bin/busybox", 0o755, &busybox);
    for command in COMMANDS {
        tar.entry(&format!("bin/{command}"), b'2', 0o777, "busybox", &[]);
    }
    tar.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/tmp:/bin/sh\n",
    );
    tar.file(
        "etc/group",
        0o644,
        b"root:x:0:\nweb:x:34:\nextra:x:50:web\n",
    );
    tar.file("etc/plain", 0o644, b"not a program\n");
    tar.finish()
}

#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn file(&mut self, name: &str, mode: u32, bytes: &[u8]) {
        self.entry(name, b'0', mode, "", bytes);
    }

    /// One ustar entry of type `kind`.
    fn entry(&mut self, name: &str, kind: u8, mode: u32, link: &str, bytes: &[u8]) {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}").as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, format!("{:011o}", bytes.len()).as_bytes());
        put(136, b"00000000000");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}
