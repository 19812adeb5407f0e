//! Adds a process to a container, to be started later.

use std::rc::Rc;

use proto::containerd::events::TaskExecAdded;
use ttrpc_wire::Code;

use super::state::Status;
use super::{Process, Shim};
use crate::bundle;
use crate::failure::{Failure, Result};
use crate::stdio::uri::StdioUris;

/// Adds the process `exec`; `spec` is the JSON of an OCI process.
pub(crate) async fn exec(
    shim: &Shim,
    id: &str,
    exec: &str,
    stdio: StdioUris,
    spec: &[u8],
) -> Result<()> {
    let container = shim.container(id)?;
    bundle::check_id(exec)?;
    if container.execs.borrow().contains_key(exec) {
        return Err(Failure::new(Code::AlreadyExists, format!("id {exec}")));
    }
    match container.init.status.get() {
        Status::Created | Status::Running => {}
        other => {
            return Err(Failure::precondition(format!(
                "cannot exec in a {} state",
                other.word()
            )));
        }
    }
    let spec = with_terminal(spec, stdio.terminal)?;
    let (io, child) = shim
        .open_io(
            &stdio,
            (id, Some(exec)),
            &container.bundle,
            container.io_owner(),
        )
        .await?;
    let process = Process::new(Some(exec.to_owned()), stdio, spec, io, child);
    if container.execs.borrow().contains_key(exec) {
        // Another asked for it while a logging program got ready.
        process.io.close().await;
        return Err(Failure::new(Code::AlreadyExists, format!("id {exec}")));
    }
    container
        .execs
        .borrow_mut()
        .insert(exec.to_owned(), Rc::clone(&process));
    shim.publisher.publish(&TaskExecAdded {
        container_id: container.id.clone(),
        exec_id: exec.to_owned(),
    });
    Ok(())
}

/// The request decides about the terminal, whatever the spec says.
fn with_terminal(spec: &[u8], terminal: bool) -> Result<Vec<u8>> {
    let bad = |err: serde_json::Error| Failure::invalid(format!("exec spec: {err}"));
    let mut process: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(spec).map_err(bad)?;
    process.insert("terminal".to_owned(), terminal.into());
    serde_json::to_vec(&process).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_decides_about_the_terminal() {
        let spec = with_terminal(br#"{"terminal":true,"args":["a"]}"#, false).unwrap();
        assert_eq!(
            String::from_utf8(spec).unwrap(),
            r#"{"args":["a"],"terminal":false}"#
        );
        assert!(with_terminal(b"[]", true).is_err());
        assert!(with_terminal(b"", true).is_err());
    }
}
