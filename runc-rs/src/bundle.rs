//! Reading `config.json` (and an exec's process file): a mistake is told by its place in the document.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use crate::failure::{Context, Failure, Result};
use crate::log::Log;
use crate::phrases;
use crate::process::capability_number;

/// A bundle directory and what its config says.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Absolute.
    pub(crate) dir: PathBuf,
    pub(crate) spec: Spec,
}

/// Reads the bundle in `dir`; empty means the current directory.
pub(crate) fn read(dir: &Path, log: &Log) -> Result<Bundle> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let dir = dir
        .canonicalize()
        .context(|| format!("bundle {}", dir.display()))?;
    let file = dir.join("config.json");
    let text = match std::fs::read(&file) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Failure::new(format!(
                "{} in {}",
                phrases::NO_CONFIG,
                dir.display()
            )));
        }
        other => other.context(|| format!("read {}", file.display()))?,
    };
    let spec = parse(&text, "config.json", "/process/capabilities", log)?;
    Ok(Bundle { dir, spec })
}

/// Parses a document of type `T` that is called `name` in messages. `capabilities` is where its capability sets are: unknown
/// names there are warned about and dropped, as the config may come from a newer world than this one.
pub(crate) fn parse<T: DeserializeOwned>(
    text: &[u8],
    name: &str,
    capabilities: &str,
    log: &Log,
) -> Result<T> {
    // The way without a mistake is the fast one; the others build the tree.
    if let Ok(parsed) = serde_json::from_slice(text) {
        return Ok(parsed);
    }
    let mut tree: Value = serde_json::from_slice(text).context(|| name.to_owned())?;
    for dropped in drop_unknown_capabilities(&mut tree, capabilities) {
        log.warn(&format!("ignoring unknown capability {dropped} in {name}"));
    }
    let process = capabilities.trim_end_matches("/capabilities");
    default_user(&mut tree, process);
    rename_scheduler_flags(&mut tree, process);
    serde_path_to_error::deserialize(&tree).map_err(|error| {
        let place = pointer(error.path().iter());
        let message = error.inner().to_string();
        let what = expectation(&message, tree.pointer(&place));
        match subject(&place, &message) {
            Some(subject) => Failure::new(format!("{name}: {place}: {subject}: {what}")),
            None => Failure::new(format!("{name}: {place}: {what}")),
        }
    })
}

/// Removes names that this version does not know from the sets at `place`, and returns them.
fn drop_unknown_capabilities(tree: &mut Value, place: &str) -> Vec<String> {
    let mut dropped = Vec::new();
    let Some(sets) = tree.pointer_mut(place).and_then(Value::as_object_mut) else {
        return dropped;
    };
    for set in sets.values_mut().filter_map(Value::as_array_mut) {
        set.retain(|entry| match entry.as_str() {
            Some(name) if capability_number(name).is_none() => {
                if !dropped.iter().any(|d| d == name) {
                    dropped.push(name.to_owned());
                }
                false
            }
            _ => true,
        });
    }
    dropped
}

/// A process that says not who it is runs as root, and in group 0.
fn default_user(tree: &mut Value, process: &str) {
    let Some(process) = tree.pointer_mut(process).and_then(Value::as_object_mut) else {
        return;
    };
    let user = process
        .entry("user")
        .or_insert_with(|| Value::Object(serde_json::Map::new()));
    for id in ["uid", "gid"] {
        if let Some(user) = user.as_object_mut() {
            user.entry(id).or_insert(Value::from(0));
        }
    }
}

/// The kernel's own names of two flags, for the names that the library has for them.
fn rename_scheduler_flags(tree: &mut Value, process: &str) {
    let flags = tree.pointer_mut(&format!("{process}/scheduler/flags"));
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        let name = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = Value::from(name);
    }
}

/// Words that callers know a mistake at `place` by, beside the place itself.
fn subject(place: &str, message: &str) -> Option<&'static str> {
    match place.strip_prefix("/linux/memoryPolicy")? {
        "" if message.contains("`mode`") => Some("invalid memory policy mode"),
        "" => Some("invalid memory policy"),
        "/mode" => Some("invalid memory policy mode"),
        below if below.starts_with("/flags") => Some("invalid memory policy flag"),
        _ => None,
    }
}

/// A path of serde's as a JSON pointer (RFC 6901). The document itself is `/`.
fn pointer<'a>(segments: impl Iterator<Item = &'a Segment>) -> String {
    let mut out = String::new();
    for segment in segments {
        let name = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { .. } | Segment::Unknown => continue,
        };
        out.push('/');
        out.push_str(&name);
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

/// serde's "invalid type: integer `5`, expected a string" as "expected a string, got 5".
fn expectation(message: &str, found: Option<&Value>) -> String {
    let Some((_, expected)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    match found {
        Some(value @ (Value::Object(_) | Value::Array(_))) => {
            let kind = if value.is_object() {
                "an object"
            } else {
                "an array"
            };
            format!("expected {expected}, got {kind}")
        }
        Some(value) => format!("expected {expected}, got {value}"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::LogFormat;

    fn message(config: &str) -> String {
        let log = Log::open(None, LogFormat::Text, false).unwrap();
        parse::<Spec>(
            config.as_bytes(),
            "config.json",
            "/process/capabilities",
            &log,
        )
        .unwrap_err()
        .chain()
    }

    #[test]
    fn a_mistake_is_told_by_its_place() {
        assert_eq!(
            message(
                r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":0,"gid":0},"args":[5]}}"#
            ),
            "config.json: /process/args/0: expected a string, got 5"
        );
        assert_eq!(
            message(r#"{"ociVersion":"1.0.0","mounts":[{"type":"proc"}]}"#),
            "config.json: /mounts/0: missing field `destination`"
        );
        assert!(message("{").starts_with("config.json: EOF while parsing"));
    }

    #[test]
    fn unknown_capabilities_are_dropped() {
        let log = Log::open(None, LogFormat::Text, false).unwrap();
        let config = r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":0,"gid":0},"args":["x"],
            "capabilities":{"bounding":["CAP_NOPE","CAP_KILL"]}}}"#;
        let spec: Spec = parse(
            config.as_bytes(),
            "config.json",
            "/process/capabilities",
            &log,
        )
        .unwrap();
        let sets = spec
            .process()
            .as_ref()
            .unwrap()
            .capabilities()
            .as_ref()
            .unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn no_document_makes_it_panic(text in "\\PC*") {
            let log = Log::open(None, LogFormat::Text, false).unwrap();
            drop(parse::<Spec>(text.as_bytes(), "config.json", "/process/capabilities", &log));
        }
    }

    fn parsed(config: &str) -> Result<Spec> {
        let log = Log::open(None, crate::cli::LogFormat::Text, false).unwrap();
        parse(
            config.as_bytes(),
            "config.json",
            "/process/capabilities",
            &log,
        )
    }

    #[test]
    fn a_process_is_roots_unless_told_and_takes_the_kernels_names_of_flags() {
        let spec = parsed(
            r#"{"ociVersion":"1.0.2","root":{"path":"r"},"process":{"cwd":"/","args":["x"],
                "scheduler":{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_DL_OVERRUN"]}}}"#,
        )
        .unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!((process.user().uid(), process.user().gid()), (0, 0));
        let flags = process
            .scheduler()
            .as_ref()
            .unwrap()
            .flags()
            .as_ref()
            .unwrap();
        assert_eq!(flags.len(), 2);
    }

    #[test]
    fn a_memory_policy_that_is_none_is_named() {
        for (policy, words) in [
            ("{}", "invalid memory policy mode"),
            (r#"{"mode":"X"}"#, "invalid memory policy mode"),
            (
                r#"{"mode":"MPOL_LOCAL","flags":["X"]}"#,
                "invalid memory policy flag",
            ),
        ] {
            let config = format!(
                r#"{{"ociVersion":"1.0.2","root":{{"path":"r"}},"linux":{{"memoryPolicy":{policy}}}}}"#
            );
            let error = parsed(&config).unwrap_err().chain();
            assert!(error.contains(words), "{error}");
        }
    }
}
