//! `list`: all containers below the root.

use crate::cli::{ListArgs, ListFormat};
use crate::commands::state::shape;
use crate::commands::{Globals, say};
use crate::failure::{Context, Result};
use crate::state::{ContainerId, Place, Record, Status, owner};

pub(super) fn run(globals: &Globals, args: &ListArgs) -> Result<()> {
    let containers = containers(globals)?;
    if args.quiet {
        for (_, record, _) in &containers {
            say(&format!("{}\n", record.id))?;
        }
        return Ok(());
    }
    match args.format {
        ListFormat::Json if containers.is_empty() => say("null\n"),
        ListFormat::Json => {
            let all: Vec<_> = containers
                .iter()
                .map(|(place, record, status)| shape(record, *status, Some(owner(&place.dir))))
                .collect();
            say(&(serde_json::to_string(&all).context(|| "print list".to_owned())? + "\n"))
        }
        ListFormat::Table => say(&table(&containers)),
    }
}

fn containers(globals: &Globals) -> Result<Vec<(Place, Record, Status)>> {
    let entries = match std::fs::read_dir(&globals.root) {
        // Where none was ever made our own directory is missing; one that was named must be there.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !globals.root_named => {
            return Ok(Vec::new());
        }
        other => other.context(|| format!("list {}", globals.root.display()))?,
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            entry
                .ok()
                .filter(|e| e.path().is_dir())?
                .file_name()
                .into_string()
                .ok()
        })
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    let mut out = Vec::new();
    for name in names {
        let Ok(id) = ContainerId::parse(&name) else {
            continue;
        };
        let place = Place::new(&globals.root, &id);
        // One that is being created or deleted this instant is no reason to show none.
        let loaded = place
            .load()
            .and_then(|record| place.status(&record).map(|status| (record, status)));
        match loaded {
            Ok((record, status)) => out.push((place, record, status)),
            Err(failure) => globals
                .log
                .warn(&format!("load container {name}: {}", failure.chain())),
        }
    }
    Ok(out)
}

/// runc's columns: at least 12 wide, three blanks between.
fn table(containers: &[(Place, Record, Status)]) -> String {
    let heading = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = containers.iter().map(|(place, record, status)| {
        let pid = if *status == Status::Stopped {
            0
        } else {
            record.init_process_pid
        };
        [
            record.id.clone(),
            pid.to_string(),
            status.word().to_owned(),
            record.bundle().to_owned(),
            record.created.clone(),
            owner(&place.dir),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(heading).chain(rows).collect();
    let width = |column: usize| {
        rows.iter()
            .map(|r| r[column].len() + 3)
            .max()
            .unwrap_or(0)
            .max(12)
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        for (text, width) in row.iter().zip(&widths) {
            out.push_str(&format!("{text:width$}"));
        }
        out.push_str(&row[5]);
        out.push('\n');
    }
    out
}
