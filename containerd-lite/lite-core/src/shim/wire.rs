//! From wire types to the core's and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use proto::containerd::runc::v1::{Options, ProcessDetails};
use proto::containerd::task::v2 as task;
use proto::containerd::types;
use proto::containerd::v1::types as v1;

use crate::shim::process::{Deleted, Exit, ProcessEntry, ProcessState, Status, TaskIo};
use crate::values::{AnyValue, Mount};

pub(super) fn any(value: &AnyValue) -> prost_types::Any {
    prost_types::Any {
        type_url: value.type_url.clone(),
        value: value.value.clone(),
    }
}

pub(super) fn any_value(any: prost_types::Any) -> AnyValue {
    AnyValue {
        type_url: any.type_url,
        value: any.value,
    }
}

pub(super) fn mount(mount: &Mount) -> types::Mount {
    types::Mount {
        r#type: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    }
}

/// A stamp the wire cannot express is read as 1970.
pub(super) fn time(stamp: prost_types::Timestamp) -> SystemTime {
    SystemTime::try_from(stamp).unwrap_or(UNIX_EPOCH)
}

pub(super) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    prost_types::Timestamp::from(time)
}

/// A shim that gives no time for an exit has just seen it.
pub(super) fn exit(code: u32, at: Option<prost_types::Timestamp>) -> Exit {
    Exit {
        code,
        at: real_time(at).unwrap_or_else(SystemTime::now),
    }
}

/// Go's zero time (year 1) stands for "none".
fn real_time(stamp: Option<prost_types::Timestamp>) -> Option<SystemTime> {
    stamp.filter(|stamp| stamp.seconds > 0).map(time)
}

pub(super) fn deleted(answer: task::DeleteResponse) -> Deleted {
    Deleted {
        pid: answer.pid,
        exit: exit(answer.exit_status, answer.exited_at),
    }
}

pub(super) fn state(answer: task::StateResponse) -> ProcessState {
    let status = match v1::Status::try_from(answer.status) {
        Ok(v1::Status::Created) => Status::Created,
        Ok(v1::Status::Running) => Status::Running,
        Ok(v1::Status::Paused) => Status::Paused,
        Ok(v1::Status::Pausing) => Status::Pausing,
        Ok(v1::Status::Stopped) => Status::Stopped,
        Ok(v1::Status::Unknown) | Err(_) => Status::Unknown,
    };
    ProcessState {
        id: if answer.exec_id.is_empty() {
            answer.id
        } else {
            answer.exec_id
        },
        pid: answer.pid,
        status,
        io: TaskIo {
            stdin: answer.stdin,
            stdout: answer.stdout,
            stderr: answer.stderr,
            terminal: answer.terminal,
        },
        exit: (status == Status::Stopped).then(|| exit(answer.exit_status, answer.exited_at)),
    }
}

pub(super) fn process_entry(process: v1::ProcessInfo) -> ProcessEntry {
    let exec_id = process
        .info
        .as_ref()
        .filter(|info| info.type_url.ends_with("containerd.runc.v1.ProcessDetails"))
        .and_then(|info| ProcessDetails::decode(info.value.as_slice()).ok())
        .map(|details| details.exec_id)
        .filter(|id| !id.is_empty());
    ProcessEntry {
        pid: process.pid,
        info: process.info.map(any_value),
        exec_id,
    }
}

/// The type of a runtime's options.
const OPTIONS_TYPE: &str = "containerd.runc.v1.Options";

/// Options of our shim: which runtime it calls (empty: ours), and whether
/// systemd makes the cgroups.
#[must_use]
pub fn runtime_options(binary: &str, systemd_cgroup: bool) -> AnyValue {
    let options = Options {
        binary_name: binary.to_owned(),
        systemd_cgroup,
        ..Options::default()
    };
    AnyValue {
        type_url: OPTIONS_TYPE.to_owned(),
        value: options.encode_to_vec(),
    }
}

/// `options` with `root` as runc's state directory unless they name one.
/// Options of another type are left as they are.
pub(crate) fn with_runtime_root(options: Option<AnyValue>, root: &str) -> AnyValue {
    let (type_url, mut decoded) = match options {
        Some(given) if !given.type_url.ends_with(OPTIONS_TYPE) => return given,
        Some(given) => match Options::decode(given.value.as_slice()) {
            Ok(decoded) => (given.type_url, decoded),
            // The shim will say what is wrong with them.
            Err(_) => return given,
        },
        None => (OPTIONS_TYPE.to_owned(), Options::default()),
    };
    if decoded.root.is_empty() {
        root.clone_into(&mut decoded.root);
    }
    AnyValue {
        type_url,
        value: decoded.encode_to_vec(),
    }
}

/// Longest time to let a single question to a shim take that it answers from memory.
pub(super) const QUICK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_root_is_filled_in_only_where_none_is_named() {
        let decode = |options: AnyValue| Options::decode(options.value.as_slice()).unwrap();
        assert_eq!(decode(with_runtime_root(None, "/r")).root, "/r");
        let named = Options {
            root: "/own".to_owned(),
            binary_name: "crun".to_owned(),
            ..Options::default()
        };
        let given = AnyValue {
            type_url: "containerd.runc.v1.Options".to_owned(),
            value: named.encode_to_vec(),
        };
        assert_eq!(decode(with_runtime_root(Some(given), "/r")), named);
        let foreign = AnyValue {
            type_url: "other.Options".to_owned(),
            value: vec![1],
        };
        assert_eq!(with_runtime_root(Some(foreign.clone()), "/r"), foreign);
    }

    #[test]
    fn a_stopped_process_has_an_exit_and_a_running_one_has_none() {
        let answer = task::StateResponse {
            id: "c".to_owned(),
            status: v1::Status::Stopped as i32,
            exit_status: 3,
            ..Default::default()
        };
        assert_eq!(state(answer.clone()).exit.unwrap().code, 3);
        let running = task::StateResponse {
            status: v1::Status::Running as i32,
            ..answer
        };
        assert_eq!(state(running).exit, None);
    }
}
