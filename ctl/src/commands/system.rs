//! Daemon and host as a whole: `info`, `system df`, `system prune`, `doctor`.

use std::fmt::Write as _;

use proto::engine::v1::PruneRequest;
use proto::engine::v1::doctor_response::Verdict;
use serde_json::{Value, json};

use super::{DONE, inspect, prune};
use crate::cli::whole::{DfArgs, InfoArgs, PruneSystemArgs};
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::clean::clean;
use crate::render::format::{self, Columns};
use crate::render::names::{ellipsis, short_id};
use crate::render::quantity::{binary_size, size};
use crate::render::table::table;
use crate::render::template;

/// `ctl info`.
pub(crate) async fn info(client: &mut Engine, args: &InfoArgs) -> Result<u8, Failure> {
    let mut info = inspect::read(&client.info(()).await?.into_inner().json)?;
    match args.format.as_deref() {
        None | Some("") => {}
        Some("json") => {
            info["ClientInfo"] = client_info();
            out::line(&info.to_string())?;
            return Ok(DONE);
        }
        Some(format) => {
            info["ClientInfo"] = client_info();
            out::line(&template::parse(format)?.render(&info)?)?;
            return Ok(DONE);
        }
    }
    out::text(&info_text(&info))?;
    for warning in info["Warnings"].as_array().into_iter().flatten() {
        let warning = clean(warning.as_str().unwrap_or_default()).into_owned();
        out::complain(&format!("{warning}\n"));
    }
    Ok(DONE)
}

fn client_info() -> Value {
    json!({ "Version": env!("CARGO_PKG_VERSION"), "Context": "default", "Debug": false })
}

/// In Docker's layout, as far as there is something to tell.
fn info_text(info: &Value) -> String {
    let text = |key: &str| match &info[key] {
        Value::String(text) => clean(text).into_owned(),
        other => other.to_string(),
    };
    let list = |value: &Value| {
        let all = value.as_array().into_iter().flatten();
        let words: Vec<&str> = all.filter_map(Value::as_str).collect();
        clean(&words.join(" ")).into_owned()
    };
    let mut lines = format!(
        "Client:\n Version:    {}\n Context:    default\n Debug Mode: false\n\nServer:\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut line = |indent: usize, name: &str, value: String| {
        let _ = writeln!(lines, "{:indent$}{name}: {value}", "");
    };
    line(1, "Containers", text("Containers"));
    line(2, "Running", text("ContainersRunning"));
    line(2, "Paused", text("ContainersPaused"));
    line(2, "Stopped", text("ContainersStopped"));
    line(1, "Images", text("Images"));
    line(1, "Server Version", text("ServerVersion"));
    line(1, "Storage Driver", text("Driver"));
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        let word = |at: usize| clean(pair[at].as_str().unwrap_or_default()).into_owned();
        line(2, &word(0), word(1));
    }
    line(1, "Logging Driver", text("LoggingDriver"));
    line(1, "Cgroup Driver", text("CgroupDriver"));
    line(1, "Cgroup Version", text("CgroupVersion"));
    line(1, "Plugins", String::new());
    for kind in ["Volume", "Network", "Log"] {
        line(2, kind, list(&info["Plugins"][kind]));
    }
    let runtimes = info["Runtimes"].as_object().into_iter().flatten();
    let runtimes: Vec<&str> = runtimes.map(|(name, _)| name.as_str()).collect();
    line(1, "Runtimes", clean(&runtimes.join(" ")).into_owned());
    line(1, "Default Runtime", text("DefaultRuntime"));
    line(1, "Init Binary", text("InitBinary"));
    line(1, "Security Options", String::new());
    for option in info["SecurityOptions"].as_array().into_iter().flatten() {
        let mut words = option.as_str().unwrap_or_default().split(',');
        let name = words.next().unwrap_or_default();
        let name = clean(name.trim_start_matches("name=")).into_owned();
        line(
            2,
            &name,
            words
                .map(|word| clean(word).replacen('=', ": ", 1))
                .collect(),
        );
    }
    line(1, "Kernel Version", text("KernelVersion"));
    line(1, "Operating System", text("OperatingSystem"));
    line(1, "OSType", text("OSType"));
    line(1, "Architecture", text("Architecture"));
    line(1, "CPUs", text("NCPU"));
    line(
        1,
        "Total Memory",
        binary_size(info["MemTotal"].as_u64().unwrap_or_default()),
    );
    line(1, "Name", text("Name"));
    line(1, "ID", text("ID"));
    line(1, "Docker Root Dir", text("DockerRootDir"));
    line(1, "Debug Mode", text("Debug"));
    line(1, "Live Restore Enabled", text("LiveRestoreEnabled"));
    // A name without a value has no space after its colon.
    lines.replace(": \n", ":\n")
}

const COLUMNS: Columns = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
    // To the byte, which Docker does not tell.
    ("Bytes", "BYTES"),
];

/// `ctl system df`.
pub(crate) async fn df(client: &mut Engine, args: &DfArgs) -> Result<u8, Failure> {
    let usage = inspect::read(&client.disk_usage(()).await?.into_inner().json)?;
    if args.verbose {
        if args.format.is_some() {
            return Err(Failure::Client(
                "the verbose and the format option exclude each other".to_owned(),
            ));
        }
        out::text(&verbose(&usage))?;
        return Ok(DONE);
    }
    let shown = ["Type", "TotalCount", "Active", "Size", "Reclaimable"];
    out::text(&format::rows(
        args.format.as_deref(),
        COLUMNS,
        &shown,
        &kinds(&usage),
    )?)?;
    Ok(DONE)
}

/// A row for each kind of thing.
fn kinds(usage: &Value) -> Vec<Value> {
    let all = |key: &str| usage[key].as_array().map_or(&[][..], Vec::as_slice);
    let count = |key: &str, active: fn(&Value) -> bool| {
        let all = all(key);
        let active = all.iter().filter(|thing| active(thing)).count();
        (all.len().to_string(), active.to_string())
    };
    let used = |thing: &Value| thing["Containers"].as_i64().unwrap_or(0) > 0;
    let runs = |thing: &Value| thing["State"] == "running" || thing["State"] == "paused";
    let mounted = |thing: &Value| thing["UsageData"]["RefCount"].as_i64().unwrap_or(0) > 0;
    let nothing = || ("0".to_owned(), "0".to_owned());
    [
        ("Images", "Images", count("Images", used)),
        ("Containers", "Containers", count("Containers", runs)),
        ("Local Volumes", "Volumes", count("Volumes", mounted)),
        ("Build Cache", "BuildCache", nothing()),
        ("Records", "Records", nothing()),
    ]
    .into_iter()
    .map(|(name, key, (total, active))| {
        let bytes = usage["Sizes"][key]["Size"].as_i64().unwrap_or(0);
        let free = usage["Sizes"][key]["Reclaimable"].as_i64().unwrap_or(0);
        let share = match (key, bytes) {
            ("BuildCache" | "Records", _) | (_, 0) => String::new(),
            (_, bytes) => format!(" ({}%)", free * 100 / bytes),
        };
        json!({
            "Type": name,
            "TotalCount": total,
            "Active": active,
            "Size": size(bytes),
            "Reclaimable": format!("{}{share}", size(free)),
            "Bytes": bytes.to_string(),
        })
    })
    .collect()
}

fn verbose(usage: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let bytes = |value: &Value| size(value.as_i64().unwrap_or(0));
    let all = |key: &str| usage[key].as_array().map_or(&[][..], Vec::as_slice).iter();
    let mut images = Vec::new();
    for image in all("Images") {
        let (total, shared) = (
            image["Size"].as_i64().unwrap_or(0),
            image["SharedSize"].as_i64().unwrap_or(0),
        );
        let tags = image["RepoTags"].as_array().cloned().unwrap_or_default();
        let names = match tags.is_empty() {
            true => vec!["<none>:<none>".to_owned()],
            false => tags.iter().map(text).collect(),
        };
        for name in names {
            let (repository, tag) = name.rsplit_once(':').unwrap_or((&name, ""));
            images.push(vec![
                repository.to_owned(),
                tag.to_owned(),
                short_id(&text(&image["Id"])).to_owned(),
                text(&image["Created"]),
                size(total),
                size(shared),
                size(total - shared),
                image["Containers"].to_string(),
            ]);
        }
    }
    let containers = all("Containers").map(|container| {
        let name = text(&container["Names"][0]);
        vec![
            short_id(&text(&container["Id"])).to_owned(),
            text(&container["Image"]),
            format!("\"{}\"", ellipsis(&text(&container["Command"]), 20)),
            container["LocalVolumes"].to_string(),
            bytes(&container["SizeTotal"]),
            text(&container["Created"]),
            text(&container["Status"]),
            name.trim_start_matches('/').to_owned(),
        ]
    });
    let volumes = all("Volumes").map(|volume| {
        vec![
            text(&volume["Name"]),
            volume["UsageData"]["RefCount"].to_string(),
            bytes(&volume["UsageData"]["Size"]),
        ]
    });
    format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\nBuild cache usage: {}\nRecords: {}\nTotal: {} ({} bytes)\n",
        table(
            &[
                "REPOSITORY",
                "TAG",
                "IMAGE ID",
                "CREATED",
                "SIZE",
                "SHARED SIZE",
                "UNIQUE SIZE",
                "CONTAINERS"
            ],
            &images
        ),
        table(
            &[
                "CONTAINER ID",
                "IMAGE",
                "COMMAND",
                "LOCAL VOLUMES",
                "SIZE",
                "CREATED",
                "STATUS",
                "NAMES"
            ],
            &containers.collect::<Vec<_>>()
        ),
        table(
            &["VOLUME NAME", "LINKS", "SIZE"],
            &volumes.collect::<Vec<_>>()
        ),
        bytes(&usage["Sizes"]["BuildCache"]["Size"]),
        bytes(&usage["Sizes"]["Records"]["Size"]),
        bytes(&usage["Total"]),
        usage["Total"],
    )
}

/// `ctl system prune`: containers first, so that what only they used goes too.
pub(crate) async fn prune(client: &mut Engine, args: &PruneSystemArgs) -> Result<u8, Failure> {
    let has_until = args
        .filter
        .iter()
        .any(|filter| filter.starts_with("until="));
    if args.volumes && has_until {
        return Err(Failure::Client(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"".to_owned(),
        ));
    }
    if !args.force && !prune::confirmed(&warning(args))? {
        return Ok(DONE);
    }
    let request = |all: bool| PruneRequest {
        all,
        filters: args.filter.clone(),
    };
    let mut total = 0;
    let pruned = client.prune_containers(request(false)).await?.into_inner();
    prune::listed("Deleted Containers", &pruned)?;
    total += pruned.reclaimed_bytes;
    let pruned = client.prune_networks(request(false)).await?.into_inner();
    prune::listed("Deleted Networks", &pruned)?;
    if args.volumes {
        let pruned = client.prune_volumes(request(false)).await?.into_inner();
        prune::listed("Deleted Volumes", &pruned)?;
        total += pruned.reclaimed_bytes;
    }
    let pruned = client.prune_images(request(args.all)).await?.into_inner();
    prune::listed("Deleted Images", &pruned)?;
    total += pruned.reclaimed_bytes;
    // Steps have neither labels nor a time that means anything.
    if args.filter.is_empty() {
        let before = cached(client).await?;
        client.prune_builds(()).await?;
        total += before.saturating_sub(cached(client).await?);
    }
    prune::reclaimed(total)?;
    Ok(DONE)
}

/// Bytes of the build cache.
async fn cached(client: &mut Engine) -> Result<u64, Failure> {
    let usage = inspect::read(&client.disk_usage(()).await?.into_inner().json)?;
    Ok(usage["Sizes"]["BuildCache"]["Size"].as_u64().unwrap_or(0))
}

fn warning(args: &PruneSystemArgs) -> String {
    let mut text = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_owned();
    if args.volumes {
        text += "  - all anonymous volumes not used by at least one container\n";
    }
    text += match args.all {
        true => "  - all images without at least one container associated to them\n",
        false => "  - all dangling images\n",
    };
    text += match args.all {
        true => "  - all build cache\n",
        false => "  - unused build cache\n",
    };
    if !args.filter.is_empty() {
        text += "\n  Items to be pruned will be filtered with:\n";
        for filter in &args.filter {
            let _ = writeln!(text, "  - {}", clean(filter));
        }
    }
    text
}

/// `ctl doctor`: exits with 1 where containers cannot run as they should.
pub(crate) async fn doctor(client: &mut Engine) -> Result<u8, Failure> {
    let mut sick = false;
    for check in client.doctor(()).await?.into_inner().checks {
        let word = match check.verdict() {
            Verdict::Good => "ok",
            Verdict::Warning => "warning",
            Verdict::Bad | Verdict::Unspecified => {
                sick = true;
                "bad"
            }
        };
        out::line(&format!("{word:<8} {}: {}", check.name, check.found))?;
        if !check.fix.is_empty() {
            out::line(&format!("{:<8} -> {}", "", check.fix))?;
        }
    }
    match sick {
        true => Err(Failure::Reported),
        false => Ok(DONE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_are_counted_and_their_share_told() {
        let usage = json!({
            "Images": [{"Containers": 1}, {"Containers": 0}],
            "Containers": [{"State": "running"}, {"State": "exited"}],
            "Volumes": [],
            "Sizes": {
                "Images": {"Size": 1000, "Reclaimable": 250},
                "Containers": {"Size": 0, "Reclaimable": 0},
            },
        });
        let rows = kinds(&usage);
        assert_eq!(rows[0]["Active"], "1");
        assert_eq!(rows[0]["Reclaimable"], "250B (25%)");
        assert_eq!(
            (&rows[1]["TotalCount"], &rows[1]["Active"]),
            (&json!("2"), &json!("1"))
        );
        assert_eq!(rows[1]["Reclaimable"], "0B");
    }
}
