//! `ctl volume …`.

use proto::engine::v1::{CreateVolumeRequest, ListVolumesRequest, PruneRequest, VolumeRequest};
use serde_json::{Value, json};

use super::{DONE, each, inspect, prune};
use crate::cli::volume::{
    CreateVolumeArgs, InspectVolumeArgs, PruneVolumesArgs, RmVolumeArgs, VolumeAction, VolumesArgs,
};
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::format::{self, Columns};

const COLUMNS: Columns = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Availability", "AVAILABILITY"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
];

/// Runs the command.
pub(crate) async fn run(client: &mut Engine, action: &VolumeAction) -> Result<u8, Failure> {
    match action {
        VolumeAction::Create(args) => create(client, args).await,
        VolumeAction::Inspect(args) => inspect_all(client, args).await,
        VolumeAction::Ls(args) => list(client, args).await,
        VolumeAction::Prune(args) => prune_all(client, args).await,
        VolumeAction::Rm(args) => remove(client, args).await,
    }
}

/// Prints the volume's name.
async fn create(client: &mut Engine, args: &CreateVolumeArgs) -> Result<u8, Failure> {
    let name = match (&args.volume, &args.name) {
        (Some(_), Some(_)) => {
            return Err(Failure::Client(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg"
                    .to_owned(),
            ));
        }
        (name, other) => name.clone().or_else(|| other.clone()),
    };
    let request = CreateVolumeRequest {
        name: name.unwrap_or_default(),
        driver: args.driver.clone().unwrap_or_default(),
        driver_opts: args.opt.iter().cloned().collect(),
        labels: args.label.iter().cloned().collect(),
    };
    let made = client.create_volume(request).await?.into_inner();
    let volume = inspect::read(&made.json)?;
    out::line(volume["Name"].as_str().unwrap_or_default())?;
    Ok(DONE)
}

async fn inspect_all(client: &mut Engine, args: &InspectVolumeArgs) -> Result<u8, Failure> {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in &args.volumes {
        let request = VolumeRequest {
            volume: name.clone(),
            force: false,
        };
        match client.inspect_volume(request).await {
            Ok(answer) => found.push(answer.into_inner().json),
            Err(status) => failures.push(Failure::from(status)),
        }
    }
    inspect::print(args.format.as_deref(), &found, &failures)
}

async fn list(client: &mut Engine, args: &VolumesArgs) -> Result<u8, Failure> {
    let request = ListVolumesRequest {
        filters: args.filter.clone(),
    };
    let found = client.list_volumes(request).await?.into_inner().json;
    let mut rows = Vec::new();
    for volume in &found {
        rows.push(row(&inspect::read(volume)?));
    }
    if args.quiet {
        for row in &rows {
            out::line(row["Name"].as_str().unwrap_or_default())?;
        }
        return Ok(DONE);
    }
    out::text(&format::rows(
        args.format.as_deref(),
        COLUMNS,
        &["Driver", "Name"],
        &rows,
    )?)?;
    Ok(DONE)
}

fn row(volume: &Value) -> Value {
    json!({
        "Driver": volume["Driver"],
        "Name": volume["Name"],
        "Scope": volume["Scope"],
        "Mountpoint": volume["Mountpoint"],
        "Labels": format::labels(&volume["Labels"]),
        "LabelMap": volume["Labels"],
        "Links": "N/A",
        "Size": "N/A",
        "Availability": "N/A",
        "Group": "N/A",
        "Status": "N/A",
    })
}

/// Prints each name as typed.
async fn remove(client: &mut Engine, args: &RmVolumeArgs) -> Result<u8, Failure> {
    each::run(&args.volumes, async |volume| {
        let request = VolumeRequest {
            volume: volume.to_owned(),
            force: args.force,
        };
        client.remove_volume(request).await?;
        Ok(Some(volume.to_owned()))
    })
    .await
}

async fn prune_all(client: &mut Engine, args: &PruneVolumesArgs) -> Result<u8, Failure> {
    let what = if args.all {
        "all volumes"
    } else {
        "anonymous local volumes"
    };
    let warning = format!("WARNING! This will remove {what} not used by at least one container.");
    if !args.force && !prune::confirmed(&warning)? {
        return Ok(DONE);
    }
    let request = PruneRequest {
        all: args.all,
        filters: args.filter.clone(),
    };
    let pruned = client.prune_volumes(request).await?.into_inner();
    prune::told("Deleted Volumes", &pruned)?;
    Ok(DONE)
}
