//! Stores of a test, and looks into them.

use std::path::{Path, PathBuf};

use lite_core::{
    Core, CoreConfig, Digest, Filters, Image, Labels, Namespace, OVERLAYFS, Platform, gc, image,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// Stores in a directory of their own, removed at the end.
pub(crate) struct Stores {
    pub(crate) core: Core,
    pub(crate) ns: Namespace,
    _dir: TempDir,
    /// Unmounted before the directory goes.
    _disk: Option<Mounted>,
}

impl Stores {
    pub(crate) fn new() -> Self {
        Self::open(tempfile::tempdir().expect("temporary directory"), None)
    }

    /// On a disk of `bytes` bytes.
    pub(crate) fn on_small_disk(bytes: u64) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let disk = Mounted::new("tmpfs", "tmpfs", dir.path(), &format!("size={bytes}"));
        Self::open(dir, Some(disk))
    }

    fn open(dir: TempDir, disk: Option<Mounted>) -> Self {
        let core = Core::open(CoreConfig {
            root: dir.path().join("root"),
            state: dir.path().join("state"),
            address: dir.path().join("socket"),
            shim_dirs: Vec::new(),
            shim_debug: false,
            registry: lite_core::RegistryConfig::default(),
        })
        .expect("open stores");
        Self {
            core,
            ns: Namespace::default(),
            _dir: dir,
            _disk: disk,
        }
    }

    /// Files that belong to neither a name nor a lease are all that may be
    /// left, and collection removes them.
    #[track_caller]
    pub(crate) fn assert_nothing_but_litter(&self) {
        let all = Filters::default();
        let (core, ns) = (&self.core, &self.ns);
        assert_eq!(core.images.list(ns, &all).expect("images"), []);
        self.wait_for_no_lease();
        gc::collect(core).expect("collect");
        assert_eq!(core.content.list(ns, &all).expect("content"), []);
        let snapshots = core.snapshots.list(ns, OVERLAYFS, &all).expect("snapshots");
        assert!(snapshots.is_empty(), "{snapshots:?}");
    }

    /// Leases of a dropped future end on another thread.
    #[track_caller]
    pub(crate) fn wait_for_no_lease(&self) {
        for _ in 0..500 {
            let leases = self.core.leases.list(&self.ns, &Filters::default());
            if leases.expect("leases").is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("a lease was left behind");
    }

    /// Waits until what a pull of `image` has brought waits for the next one.
    #[track_caller]
    pub(crate) fn wait_for_an_interrupted_pull(&self, image: &str) {
        for _ in 0..500 {
            let leases = self.core.leases.list(&self.ns, &Filters::default());
            let leases = leases.expect("leases");
            let interrupted = leases.iter().any(|lease| {
                let of = lease.labels.get("containerd-lite/interrupted-pull");
                of.is_some_and(|of| of == image)
            });
            if interrupted {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("no lease of an interrupted pull of {image}");
    }

    /// Whether this tenant has the blob.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.core.content.info(&self.ns, digest).is_ok()
    }

    /// Mounts the files of an image.
    pub(crate) fn files_of(&self, image: &Image) -> Mounted {
        let resolved = image::resolve(&self.core, &self.ns, &image.target, &Platform::host())
            .expect("resolve image");
        let chain = resolved.chain_id.expect("layers");
        let mounts = self
            .core
            .snapshots
            .view(
                &self.ns,
                OVERLAYFS,
                &format!("view {}", image.name),
                chain.as_str(),
                &Labels::new(),
            )
            .expect("view");
        let place = tempfile::tempdir().expect("temporary directory").keep();
        let [only] = mounts.as_slice() else {
            panic!("one mount: {mounts:?}");
        };
        let mut mounted = if only.kind == "bind" {
            Mounted::bind(&only.source, &place)
        } else {
            Mounted::new(&only.kind, &only.source, &place, &only.options.join(","))
        };
        mounted.remove = Some(place);
        mounted
    }
}

/// A mount that ends with the test.
pub(crate) struct Mounted {
    at: PathBuf,
    remove: Option<PathBuf>,
}

impl Mounted {
    fn new(kind: &str, source: &str, at: &Path, options: &str) -> Self {
        mount(
            Some(source),
            at,
            Some(kind),
            MsFlags::empty(),
            Some(options),
        )
        .expect("mount");
        Self {
            at: at.to_owned(),
            remove: None,
        }
    }

    fn bind(source: &str, at: &Path) -> Self {
        mount(
            Some(source),
            at,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .expect("bind");
        Self {
            at: at.to_owned(),
            remove: None,
        }
    }

    pub(crate) fn read(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.at.join(path)).ok()
    }

    /// Checks the files of the demo image: the upper layer's whiteouts hide
    /// what they should and no more.
    #[track_caller]
    pub(crate) fn assert_demo(&self) {
        let busybox = std::fs::read("/bin/busybox").expect("busybox");
        assert!(self.read("bin/busybox") == Some(busybox), "bin/busybox");
        assert_eq!(
            std::fs::read_link(self.at.join("bin/sh")).expect("bin/sh"),
            Path::new("busybox")
        );
        assert_eq!(self.read("hello.txt").as_deref(), Some(&b"hello\n"[..]));
        assert!(self.read("etc/passwd").is_some(), "etc/passwd");
        assert_eq!(self.read("etc/removed"), None);
        assert_eq!(self.read("opt/dir/old"), None);
        assert_eq!(self.read("opt/dir/new").as_deref(), Some(&b"new\n"[..]));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        if let Some(dir) = &self.remove {
            let _ = std::fs::remove_dir(dir);
        }
    }
}
