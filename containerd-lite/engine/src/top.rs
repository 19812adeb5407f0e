//! The processes of a container, as the host's `ps` shows them.

use std::collections::HashSet;

use lite_core::{Kind, Result};

use crate::engine::Engine;
use crate::state::Phase;

/// A table of processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Headings.
    pub titles: Vec<String>,
    /// Rows.
    pub rows: Vec<Vec<String>>,
}

/// The container's processes with `ps_args`, or `-ef`.
///
/// # Errors
/// NotFound; FailedPrecondition when it does not run or there is no ps;
/// InvalidArgument for arguments that show no process ids.
pub async fn top(engine: &Engine, container: &str, ps_args: &[String]) -> Result<Table> {
    let record = engine.find(container)?.record();
    if record.phase != Phase::Running {
        return Err(
            Kind::FailedPrecondition.error(format!("container {} is not running", record.id))
        );
    }
    let entries = engine.core().tasks.pids(engine.ns(), &record.id).await?;
    let pids: HashSet<u32> = entries.iter().map(|entry| entry.pid).collect();
    let args: Vec<String> = if ps_args.is_empty() {
        vec!["-ef".to_owned()]
    } else {
        ps_args.to_vec()
    };
    let output = lite_core::blocking(move || {
        std::process::Command::new("ps")
            .args(&args)
            .output()
            .map_err(|err| {
                Kind::FailedPrecondition
                    .error("run the host's ps")
                    .because(err)
            })
    })
    .await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Kind::InvalidArgument.error(format!("ps: {}", said.trim())));
    }
    parse(&String::from_utf8_lossy(&output.stdout), &pids)
}

/// Picks the rows of `pids` out of what ps printed.
fn parse(text: &str, pids: &HashSet<u32>) -> Result<Table> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let at = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| Kind::InvalidArgument.error("Couldn't find PID field in ps output"))?;
    let last = titles.len().saturating_sub(1);
    let mut rows = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ours = words
            .get(at)
            .and_then(|word| word.parse().ok())
            .is_some_and(|pid: u32| pids.contains(&pid));
        if ours && words.len() > last {
            let mut row: Vec<String> = words[..last].iter().map(|&word| word.to_owned()).collect();
            // The command line, spaces and all.
            row.push(words[last..].join(" "));
            rows.push(row);
        }
    }
    Ok(Table { titles, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_are_shown() {
        let text = "UID PID CMD\nroot 1 init\nroot 22 sh -c sleep 9\n";
        let table = parse(text, &HashSet::from([22])).unwrap();
        assert_eq!(table.titles, ["UID", "PID", "CMD"]);
        assert_eq!(table.rows, [["root", "22", "sh -c sleep 9"]]);
        assert!(parse("UID CMD\n", &HashSet::new()).is_err());
    }
}
