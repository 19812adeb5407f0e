//! `ps`: the container's processes, by pid or as ps(1) shows them.

use std::process::Command;

use crate::cli::{ListFormat, PsArgs};
use crate::commands::{Globals, say};
use crate::failure::{Context, Failure, Result};

pub(super) fn run(globals: &Globals, args: &PsArgs) -> Result<()> {
    let (_, record) = globals.container(&args.id)?;
    let pids = record
        .cgroup()
        .pids()
        .context(|| "list processes".to_owned())?;
    if args.format == ListFormat::Json {
        return say(&(serde_json::to_string(&pids).context(|| "print pids".to_owned())? + "\n"));
    }
    let options = if args.options.is_empty() {
        vec!["-ef".to_owned()]
    } else {
        args.options.clone()
    };
    let output = Command::new("ps")
        .args(&options)
        .output()
        .context(|| "run ps".to_owned())?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "ps: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    say(&select(&String::from_utf8_lossy(&output.stdout), &pids)?)
}

/// The heading, and the lines whose PID column is one of `pids`.
fn select(text: &str, pids: &[i32]) -> Result<String> {
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Failure::new("couldn't find PID field in ps output"))?;
    let of_container = |line: &&str| {
        line.split_whitespace()
            .nth(column)
            .and_then(|pid| pid.parse().ok())
            .is_some_and(|pid: i32| pids.contains(&pid))
    };
    Ok(std::iter::once(heading)
        .chain(lines.filter(of_container))
        .map(|line| format!("{line}\n"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines_are_shown() {
        let text = "UID PID CMD\nroot 1 init\nroot 7 sh\n";
        assert_eq!(select(text, &[7]).unwrap(), "UID PID CMD\nroot 7 sh\n");
        assert!(select("no heading", &[]).is_err());
    }
}
