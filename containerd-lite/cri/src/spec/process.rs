//! What runs, and as whom.

use lite_core::capabilities::{ALL, DEFAULT};
use lite_core::user::User;
use lite_core::{Kind, Result};
use serde_json::{Value, json};

use super::Inputs;
use crate::config::{Profile, Security};
use crate::host::Host;

/// Where programs are looked for unless the image says so.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One process of a container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process<'a> {
    /// Command line.
    pub(crate) args: &'a [String],
    /// Environment.
    pub(crate) env: &'a [String],
    /// Working directory.
    pub(crate) cwd: &'a str,
    /// Identity.
    pub(crate) user: &'a User,
    /// With a terminal.
    pub(crate) tty: bool,
    /// Rights.
    pub(crate) security: &'a Security,
    /// Limits.
    pub(crate) oom_score_adj: i64,
    /// The host.
    pub(crate) host: &'a Host,
}

/// Sets of capabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// The bounding set.
    pub(crate) bounding: Vec<&'static str>,
    /// What is kept over an exec by whoever is not root.
    pub(crate) ambient: Vec<&'static str>,
}

/// The capabilities that `security` asks for.
///
/// # Errors
/// InvalidArgument for a name that is none.
pub(crate) fn capabilities(security: &Security, last: usize) -> Result<Capabilities> {
    let known = &ALL[..ALL.len().min(last + 1)];
    let asked = &security.capabilities;
    let ambient = named(&asked.ambient, known)?;
    if security.privileged {
        return Ok(Capabilities {
            bounding: known.to_vec(),
            ambient,
        });
    }
    let every = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case("all"));
    let dropped = named(&asked.drop, known)?;
    let base: &[&'static str] = match (every(&asked.add), every(&asked.drop)) {
        (true, _) => known,
        (false, true) => &[],
        (false, false) => &DEFAULT,
    };
    let mut bounding: Vec<_> = base
        .iter()
        .copied()
        .filter(|cap| !dropped.contains(cap))
        .collect();
    for cap in named(&asked.add, known)?
        .into_iter()
        .chain(ambient.iter().copied())
    {
        if !bounding.contains(&cap) {
            bounding.push(cap);
        }
    }
    Ok(Capabilities { bounding, ambient })
}

/// The capabilities that a list names, without `ALL`.
fn named(list: &[String], known: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for name in list.iter().filter(|name| !name.eq_ignore_ascii_case("all")) {
        let upper = name.to_ascii_uppercase();
        let full = match upper.strip_prefix("CAP_") {
            Some(_) => upper,
            None => format!("CAP_{upper}"),
        };
        let cap = known.iter().find(|cap| **cap == full);
        found.push(
            cap.copied().ok_or_else(|| {
                Kind::InvalidArgument.error(format!("unknown capability {name:?}"))
            })?,
        );
    }
    Ok(found)
}

/// The first process.
pub(super) fn main(inputs: &Inputs<'_>) -> Result<Value> {
    let config = inputs.config;
    let args = argv(inputs)?;
    let env = environment(inputs);
    let of_image = inputs.image.config().as_ref();
    let image_dir = of_image.and_then(|image| image.working_dir().clone());
    let cwd = [
        config.working_dir.as_str(),
        image_dir.as_deref().unwrap_or_default(),
        "/",
    ]
    .into_iter()
    .find(|dir| !dir.is_empty())
    .unwrap_or("/");
    to_json(&Process {
        args: &args,
        env: &env,
        cwd,
        user: inputs.user,
        tty: config.tty,
        security: &config.security,
        oom_score_adj: config.resources.oom_score_adj,
        host: inputs.host,
    })
}

/// A command takes the place of the image's entrypoint and drops the image's
/// arguments; arguments alone take the place of the image's.
fn argv(inputs: &Inputs<'_>) -> Result<Vec<String>> {
    let config = inputs.config;
    let of_image = inputs.image.config().as_ref();
    let entrypoint = of_image
        .and_then(|image| image.entrypoint().clone())
        .unwrap_or_default();
    let cmd = of_image
        .and_then(|image| image.cmd().clone())
        .unwrap_or_default();
    let args = match (config.command.is_empty(), config.args.is_empty()) {
        (true, true) => [entrypoint, cmd].concat(),
        (true, false) => [entrypoint, config.args.clone()].concat(),
        (false, _) => [config.command.clone(), config.args.clone()].concat(),
    };
    match args.first() {
        Some(program) if !program.is_empty() => Ok(args),
        _ => Err(Kind::InvalidArgument
            .error("no command specified: neither the container nor its image has one")),
    }
}

fn environment(inputs: &Inputs<'_>) -> Vec<String> {
    let mut env = vec![PATH.to_owned()];
    if inputs.config.tty {
        set(&mut env, "TERM=xterm");
    }
    if !inputs.pod.config.hostname.is_empty() {
        set(
            &mut env,
            &format!("HOSTNAME={}", inputs.pod.config.hostname),
        );
    }
    let of_image = inputs.image.config().as_ref();
    for one in of_image
        .and_then(|image| image.env().clone())
        .unwrap_or_default()
    {
        set(&mut env, &one);
    }
    for (key, value) in &inputs.config.envs {
        set(&mut env, &format!("{key}={value}"));
    }
    env
}

/// The last of a name counts.
fn set(env: &mut Vec<String>, entry: &str) {
    let name = entry.split('=').next().unwrap_or(entry);
    let same = |other: &String| other.split('=').next() == Some(name);
    match env.iter_mut().find(|other| same(other)) {
        Some(old) => entry.clone_into(old),
        None => env.push(entry.to_owned()),
    }
}

/// A runtime-spec process.
///
/// # Errors
/// InvalidArgument for a capability that is none.
pub(crate) fn to_json(process: &Process<'_>) -> Result<Value> {
    let (user, security, host) = (process.user, process.security, process.host);
    let capabilities = capabilities(security, host.last_capability)?;
    // What is not root has the bounding set, but in effect only what is ambient.
    let effective: &[&str] = if user.uid == 0 {
        &capabilities.bounding
    } else {
        &capabilities.ambient
    };
    let mut sets = json!({
        "bounding": capabilities.bounding,
        "effective": effective,
        "permitted": effective,
    });
    if !capabilities.ambient.is_empty() {
        sets["inheritable"] = json!(capabilities.ambient);
        sets["ambient"] = json!(capabilities.ambient);
    }
    let mut object = json!({
        "terminal": process.tty,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
        "args": process.args,
        "env": process.env,
        "cwd": process.cwd,
        "capabilities": sets,
        "noNewPrivileges": security.no_new_privs,
        // No further down than the daemon itself may go.
        "oomScoreAdj": process.oom_score_adj.clamp(host.least_oom_score, 1000),
    });
    if host.apparmor
        && !security.privileged
        && let Some(Profile::Localhost(name)) = &security.apparmor
    {
        object["apparmorProfile"] = json!(name);
    }
    Ok(object)
}
