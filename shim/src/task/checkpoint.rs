//! Writes a container's state to disk by the runtime's checkpoint, and makes
//! containers of such state by its restore.
//!
//! A container created with a checkpoint has no process until it is started:
//! [`Restore`] keeps what its start needs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use proto::containerd::events::TaskCheckpointed;
use proto::containerd::runc::v1::CheckpointOptions;

use super::state::{Event, Status};
use super::{Container, Shim};
use crate::bundle::Options;
use crate::failure::{Failure, Result, warn};

/// Where in the bundle a failed checkpoint's log is kept.
const DUMP_LOG: &str = "criu-dump.log";

/// What a container is restored from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restore {
    /// The checkpoint's directory.
    pub(crate) image: PathBuf,
    /// The checkpoint that it builds on, relative to `image`; or empty.
    pub(crate) parent: PathBuf,
}

impl Restore {
    /// The runtime's command without the words that [`super::create::launch`] adds.
    pub(super) fn args(&self, bundle: &Path, options: &Options) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![
            "restore".into(),
            "--bundle".into(),
            bundle.into(),
            "--image-path".into(),
            self.image.clone().into(),
            "--work-path".into(),
            work_path("", bundle, options).into(),
        ];
        if !self.parent.as_os_str().is_empty() {
            args.extend(["--parent-path".into(), self.parent.clone().into()]);
        }
        if options.no_pivot_root {
            args.push("--no-pivot".into());
        }
        // The restored process is to become the shim's child, not the runtime's.
        args.extend(["--detach".into(), "--no-subreaper".into()]);
        args
    }
}

/// Where CRIU keeps its logs: where the request says, where the container's
/// options say, or in the bundle.
fn work_path(asked: &str, bundle: &Path, options: &Options) -> PathBuf {
    [asked, &options.criu_work_path]
        .into_iter()
        .find(|path| !path.is_empty())
        .map_or_else(|| bundle.join("work"), PathBuf::from)
}

/// Writes the container's state to the directory `path`, or where the options
/// say if that is empty; ends the container if the options say so.
pub(crate) async fn checkpoint(
    shim: &Shim,
    id: &str,
    path: &str,
    wanted: &CheckpointOptions,
) -> Result<()> {
    let container = shim.container(id)?;
    let init = &container.init;
    let _turn = init.turn.lock().await;
    let before = init.status.get();
    if !matches!(before, Status::Running | Status::Paused) {
        return Err(Failure::precondition(format!(
            "cannot checkpoint a task in {} state",
            before.word()
        )));
    }
    let image = image_path(path, wanted, &container.options).ok_or_else(|| {
        Failure::invalid("checkpoint: neither the request nor the options name a directory")
    })?;
    let work = work_path(&wanted.work_path, &container.bundle, &container.options);
    let keep_work = !wanted.work_path.is_empty() || !container.options.criu_work_path.is_empty();
    if before == Status::Running {
        init.status.set(before.after(Event::Pausing, "checkpoint")?);
    }
    let dumped = container
        .runtime
        .run(args(&container, wanted, &image, &work))
        .await;
    // It may have ended meanwhile, of itself or because it was to.
    if before == Status::Running
        && let Ok(running) = init.status.get().after(Event::Resumed, "resume")
    {
        init.status.set(running);
    }
    if dumped.is_err() {
        let log = container.bundle.join(DUMP_LOG);
        if let Err(err) = fs::copy(work.join("dump.log"), &log) {
            warn("keep the log of a failed checkpoint", &err);
        }
    }
    if !keep_work {
        // It may not have been made.
        let _ = fs::remove_dir_all(&work);
    }
    dumped.map_err(|err| {
        let log = container.bundle.join(DUMP_LOG);
        err.during(&format!(
            "OCI runtime checkpoint failed (log: {})",
            log.display()
        ))
    })?;
    shim.publisher.publish(&TaskCheckpointed {
        container_id: container.id.clone(),
        checkpoint: image.display().to_string(),
    });
    Ok(())
}

fn image_path(path: &str, wanted: &CheckpointOptions, options: &Options) -> Option<PathBuf> {
    [path, &wanted.image_path, &options.criu_image_path]
        .into_iter()
        .find(|path| !path.is_empty())
        .map(PathBuf::from)
}

fn args(
    container: &Container,
    wanted: &CheckpointOptions,
    image: &Path,
    work: &Path,
) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![
        "checkpoint".into(),
        "--image-path".into(),
        image.into(),
        "--work-path".into(),
        work.into(),
    ];
    let valued = [
        ("--parent-path", &wanted.parent_path),
        ("--manage-cgroups-mode", &wanted.cgroups_mode),
    ];
    for (flag, value) in valued {
        if !value.is_empty() {
            args.extend([flag.into(), value.into()]);
        }
    }
    let switches = [
        ("--tcp-established", wanted.open_tcp),
        ("--ext-unix-sk", wanted.external_unix_sockets),
        ("--shell-job", wanted.terminal),
        ("--file-locks", wanted.file_locks),
        ("--leave-running", !wanted.exit),
    ];
    for (flag, on) in switches {
        if on {
            args.push(flag.into());
        }
    }
    for namespace in &wanted.empty_namespaces {
        args.extend(["--empty-ns".into(), namespace.into()]);
    }
    args.push((&container.id).into());
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_the_options_and_the_bundle_are_asked_in_turn() {
        let options = Options {
            criu_image_path: "/o/image".into(),
            criu_work_path: "/o/work".into(),
            ..Options::default()
        };
        let wanted = CheckpointOptions {
            image_path: "/w/image".into(),
            ..Default::default()
        };
        let none = CheckpointOptions::default();
        let nothing = Options::default();
        assert_eq!(
            image_path("/r", &wanted, &options),
            Some(PathBuf::from("/r"))
        );
        assert_eq!(
            image_path("", &wanted, &options),
            Some(PathBuf::from("/w/image"))
        );
        assert_eq!(
            image_path("", &none, &options),
            Some(PathBuf::from("/o/image"))
        );
        assert_eq!(image_path("", &none, &nothing), None);
        let bundle = Path::new("/b");
        assert_eq!(work_path("/r", bundle, &options), Path::new("/r"));
        assert_eq!(work_path("", bundle, &options), Path::new("/o/work"));
        assert_eq!(work_path("", bundle, &nothing), Path::new("/b/work"));
    }

    #[test]
    fn a_restore_detaches_from_the_runtime() {
        let restore = Restore {
            image: "/image".into(),
            parent: "../parent".into(),
        };
        let words: Vec<_> = restore
            .args(Path::new("/b"), &Options::default())
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        assert_eq!(
            words.join(" "),
            "restore --bundle /b --image-path /image --work-path /b/work --parent-path ../parent \
             --detach --no-subreaper"
        );
    }
}
