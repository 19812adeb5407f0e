//! Brings a task into being.
//!
//! 1. The id is reserved; from here its shim's events have a place to go.
//! 2. The bundle is made, with the shim's binary on record.
//! 3. The shim is started, its address put on record, and connected to.
//! 4. The shim creates the container; its init waits for start.
//! 5. A supervisor takes over.
//!
//! On failure the steps done so far are undone in reverse, and the first error
//! is the one reported.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::bundle::{Bundle, Record};
use super::command::Command;
use super::ending;
use super::slots::{Key, Shared};
use super::supervisor::{Start, supervise};
use super::view::View;
use super::{CreateTask, phrases};
use crate::blocking;
use crate::error::{Result, chain};
use crate::shim::launch::Whose;
use crate::shim::log::{self, LogReader};
use crate::shim::{DEFAULT_RUNTIME, ProcessState, Shim, Status, with_runtime_root};
use crate::values::AnyValue;

/// Creates the task and returns its init's pid.
pub(super) async fn create(shared: Arc<Shared>, key: Key, request: CreateTask) -> Result<u32> {
    let commands = shared.reserve(&key)?;
    let result = build(&shared, &key, request, commands).await;
    if result.is_err() {
        shared.release(&key);
    }
    result
}

async fn build(
    shared: &Arc<Shared>,
    key: &Key,
    request: CreateTask,
    commands: mpsc::Receiver<Command>,
) -> Result<u32> {
    let binary = shared.launcher.find(&request.runtime.name)?;
    let options = options(&request, &shared.runtime_root);
    let record = Record {
        runtime: request.runtime.name.clone(),
        shim: binary.clone(),
        endpoint: None,
    };
    let bundle = Bundle::at(&shared.dir, &key.namespace, &key.id);
    make_bundle(bundle.clone(), request.spec.clone(), record.clone()).await?;
    let mut steps = Steps {
        shared,
        key,
        binary: &binary,
        bundle: &bundle,
        started: false,
        shim: None,
    };
    match steps.run(&request, options.as_ref(), record).await {
        Ok((shim, log, pid)) => {
            let init = ProcessState {
                id: key.id.clone(),
                pid,
                status: Status::Created,
                io: request.io,
                exit: None,
            };
            let start = Start {
                shared: Arc::clone(shared),
                key: key.clone(),
                shim,
                binary,
                bundle,
                view: View::new(init),
                commands,
                log,
            };
            supervise(start, false);
            Ok(pid)
        }
        Err(err) => {
            steps.undo().await;
            Err(phrases::classify(err))
        }
    }
}

/// The task's own options, else the runtime's; our default runtime is also
/// told where to keep its state.
fn options(request: &CreateTask, runtime_root: &str) -> Option<AnyValue> {
    let given = [&request.options, &request.runtime.options]
        .into_iter()
        .flatten()
        .find(|options| !options.type_url.is_empty())
        .cloned();
    if request.runtime.name == DEFAULT_RUNTIME {
        Some(with_runtime_root(given, runtime_root))
    } else {
        given
    }
}

async fn make_bundle(bundle: Bundle, spec: Vec<u8>, record: Record) -> Result<()> {
    blocking(move || {
        bundle.create(&spec)?;
        bundle.save(&record).inspect_err(|_| {
            // The first error is the one to report.
            let _ = bundle.remove();
        })
    })
    .await
}

/// How far the creation has come.
struct Steps<'a> {
    shared: &'a Shared,
    key: &'a Key,
    binary: &'a Path,
    bundle: &'a Bundle,
    started: bool,
    shim: Option<Shim>,
}

impl Steps<'_> {
    async fn run(
        &mut self,
        request: &CreateTask,
        options: Option<&AnyValue>,
        mut record: Record,
    ) -> Result<(Shim, LogReader, u32)> {
        let log = log::follow(&self.bundle.path, &self.key.id)?;
        let endpoint = self
            .shared
            .launcher
            .start(self.binary, self.whose(), options)
            .await?;
        self.started = true;
        record.endpoint = Some(endpoint.clone());
        let bundle = self.bundle.clone();
        blocking(move || bundle.save(&record)).await?;
        let shim = Shim::connect(&endpoint, &self.key.namespace, &self.key.id).await?;
        let shim = self.shim.insert(shim);
        let pid = shim
            .create(&self.bundle.path, &request.rootfs, &request.io, options)
            .await?;
        Ok((shim.clone(), log, pid))
    }

    fn whose(&self) -> Whose<'_> {
        Whose {
            namespace: &self.key.namespace,
            id: &self.key.id,
            bundle: &self.bundle.path,
        }
    }

    /// Ends the shim, has its binary remove what the runtime left, and removes
    /// the bundle. What fails here is only noted.
    async fn undo(self) {
        let note = |what: &str, err: &crate::error::Error| {
            tracing::warn!(
                container_id = self.key.id,
                error = chain(err),
                "undo create: {what}"
            )
        };
        if let Some(shim) = &self.shim {
            ending::shut_down(shim, self.shared.others_use(self.key, shim)).await;
        }
        if self.started
            && let Err(err) = self.shared.launcher.delete(self.binary, self.whose()).await
        {
            note("shim delete", &err);
        }
        let bundle = self.bundle.clone();
        if let Err(err) = blocking(move || bundle.remove()).await {
            note("remove bundle", &err);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::Runtime;
    use crate::shim::TaskIo;

    fn request(runtime: &str, own: Option<&str>, task: Option<&str>) -> CreateTask {
        let any = |type_url: &str| AnyValue {
            type_url: type_url.to_owned(),
            value: vec![1],
        };
        CreateTask {
            id: "c".to_owned(),
            spec: Vec::new(),
            rootfs: Vec::new(),
            io: TaskIo::default(),
            runtime: Runtime {
                name: runtime.to_owned(),
                options: own.map(any),
            },
            options: task.map(any),
        }
    }

    #[test]
    fn a_tasks_options_come_before_its_runtimes() {
        let type_of = |request: &CreateTask| options(request, "/r").map(|options| options.type_url);
        assert_eq!(
            type_of(&request("x", Some("runtime"), Some("task"))).as_deref(),
            Some("task")
        );
        assert_eq!(
            type_of(&request("x", Some("runtime"), None)).as_deref(),
            Some("runtime")
        );
        assert_eq!(
            type_of(&request("x", Some("runtime"), Some(""))).as_deref(),
            Some("runtime")
        );
        assert_eq!(type_of(&request("x", None, None)), None);
        assert_eq!(
            type_of(&request(DEFAULT_RUNTIME, None, None)).as_deref(),
            Some("containerd.runc.v1.Options")
        );
    }
}
