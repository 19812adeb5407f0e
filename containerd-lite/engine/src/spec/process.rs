//! The spec of one process: the main one, or one that is exec'd.

use serde_json::{Value, json};

use super::{INIT, Inputs};
use crate::environment;
use crate::limits;
use crate::user::User;

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Width.
    pub columns: u32,
    /// Height.
    pub rows: u32,
}

/// One process to run.
#[derive(Debug, Clone, Copy)]
pub struct Process<'a> {
    /// Command line.
    pub args: &'a [String],
    /// Whole environment.
    pub env: &'a [String],
    /// Working directory; empty means `/`.
    pub cwd: &'a str,
    /// Identity.
    pub user: &'a User,
    /// With a terminal.
    pub tty: bool,
    /// The terminal's size, where a client has one.
    pub window: Option<Window>,
    /// The bounding set, as `CAP_…`.
    pub capabilities: &'a [&'static str],
    /// It cannot gain rights.
    pub no_new_privileges: bool,
}

pub(super) fn main(inputs: &Inputs<'_>) -> lite_core::Result<Value> {
    let (config, host) = (inputs.config, inputs.host_config);
    let env = environment::of_process(&config.env, &config.hostname, config.tty);
    let mut args = config.argv();
    if inputs.init.is_some() {
        let init = [INIT, "--"].map(str::to_owned);
        args.splice(0..0, init);
    }
    let mut process = process_json(&Process {
        args: &args,
        env: &env,
        cwd: &config.workdir,
        user: inputs.user,
        tty: config.tty,
        window: None,
        capabilities: &inputs.rights.capabilities,
        no_new_privileges: inputs.rights.no_new_privileges,
    });
    if let Some(adjust) = host.oom_score_adj {
        process["oomScoreAdj"] = json!(adjust);
    }
    let rlimits = limits::rlimits(&host.resources.ulimits)?;
    if !rlimits.is_empty() {
        process["rlimits"] = json!(rlimits);
    }
    if let Some(profile) = &inputs.rights.apparmor {
        process["apparmorProfile"] = json!(profile);
    }
    Ok(process)
}

/// A runtime-spec process.
#[must_use]
pub fn process_json(process: &Process<'_>) -> Value {
    let user = process.user;
    // Capabilities of a process that is not root must come from its files:
    // it keeps the bounding set, but has none in effect.
    let effective: &[&str] = if user.uid == 0 {
        process.capabilities
    } else {
        &[]
    };
    let mut object = json!({
        "terminal": process.tty,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
        "args": process.args,
        "env": process.env,
        "cwd": if process.cwd.is_empty() { "/" } else { process.cwd },
        "capabilities": {
            "bounding": process.capabilities,
            "effective": effective,
            "permitted": effective,
        },
        "oomScoreAdj": 0,
    });
    if process.no_new_privileges {
        object["noNewPrivileges"] = json!(true);
    }
    if let Some(Window { columns, rows }) = process.window.filter(|_| process.tty) {
        object["consoleSize"] = json!({ "height": rows, "width": columns });
    }
    object
}
