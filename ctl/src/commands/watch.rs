//! Commands that look at containers at work: top and stats.

use std::io::IsTerminal;
use std::time::Duration;

use proto::engine::v1::{
    ContainerRequest, ListContainersRequest, StatsResponse, TopContainerRequest,
};
use serde_json::{Value, json};

use super::DONE;
use crate::cli::change::{StatsArgs, TopArgs};
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::format::{self, Columns};
use crate::render::names::short_id;
use crate::render::quantity::{binary_size, size};
use crate::render::table::table;

/// Between two samples, as in Docker.
const PERIOD: Duration = Duration::from_secs(1);

/// `ctl top`: the container's processes as ps shows them.
pub(crate) async fn top(client: &mut Engine, args: &TopArgs) -> Result<u8, Failure> {
    let Some((container, options)) = args.container_and_options.split_first() else {
        return Err(Failure::Client("a container is needed".to_owned()));
    };
    let request = TopContainerRequest {
        container: container.clone(),
        ps_args: options.to_vec(),
    };
    let answer = client.top_container(request).await?.into_inner();
    let titles: Vec<&str> = answer.titles.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = answer.rows.into_iter().map(|row| row.cells).collect();
    out::text(&table(&titles, &rows))?;
    Ok(DONE)
}

const COLUMNS: Columns = &[
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

const SHOWN: [&str; 8] = [
    "ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs",
];

/// `ctl stats`: what containers use, until the user has seen enough. Shares of
/// processors are over the time between two samples.
pub(crate) async fn stats(client: &mut Engine, args: &StatsArgs) -> Result<u8, Failure> {
    let mut before: Vec<StatsResponse> = Vec::new();
    let on_screen = std::io::stdout().is_terminal() && !args.no_stream;
    loop {
        let now = sample(client, args).await?;
        let first = before.is_empty() && !now.is_empty();
        if !first || now.iter().all(|stats| !stats.running) {
            let rows: Vec<Value> = now
                .iter()
                .map(|stats| row(stats, before.iter().find(|old| old.id == stats.id), args))
                .collect();
            let text = format::rows(args.format.as_deref(), COLUMNS, &SHOWN, &rows)?;
            // From the top, with what was there before wiped.
            let clear = if on_screen { "\x1b[H\x1b[J" } else { "" };
            out::text(&format!("{clear}{text}"))?;
            if args.no_stream {
                return Ok(DONE);
            }
        }
        before = now;
        tokio::time::sleep(PERIOD).await;
    }
}

async fn sample(client: &mut Engine, args: &StatsArgs) -> Result<Vec<StatsResponse>, Failure> {
    let named = if args.containers.is_empty() {
        let request = ListContainersRequest {
            all: args.all,
            ..Default::default()
        };
        let listed = client.list_containers(request).await?.into_inner();
        listed.containers.into_iter().map(|row| row.id).collect()
    } else {
        args.containers.clone()
    };
    let mut samples = Vec::new();
    for container in named {
        let request = ContainerRequest { container };
        match client.stats_container(request).await.map_err(Failure::from) {
            // Removed since it was listed.
            Err(failure) if failure.is_not_found() && args.containers.is_empty() => {}
            answer => samples.push(answer?.into_inner()),
        }
    }
    Ok(samples)
}

fn row(stats: &StatsResponse, before: Option<&StatsResponse>, args: &StatsArgs) -> Value {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let id = if args.no_trunc {
        &stats.id
    } else {
        short_id(&stats.id)
    };
    if !stats.running {
        return json!({
            "Container": id, "ID": id, "Name": stats.name, "CPUPerc": "0.00%",
            "MemUsage": "0B / 0B", "MemPerc": "0.00%", "NetIO": "0B / 0B",
            "BlockIO": "0B / 0B", "PIDs": "0",
        });
    }
    let memory = match stats.memory_limit_bytes {
        0 => 0.0,
        limit => stats.memory_bytes as f64 / limit as f64 * 100.0,
    };
    json!({
        "Container": id,
        "ID": id,
        "Name": stats.name,
        "CPUPerc": format!("{:.2}%", processors(stats, before)),
        "MemUsage": format!("{} / {}", binary_size(stats.memory_bytes), binary_size(stats.memory_limit_bytes)),
        "MemPerc": format!("{memory:.2}%"),
        "NetIO": format!("{} / {}", size(signed(stats.network_rx_bytes)), size(signed(stats.network_tx_bytes))),
        "BlockIO": format!("{} / {}", size(signed(stats.block_read_bytes)), size(signed(stats.block_write_bytes))),
        "PIDs": stats.pids.to_string(),
    })
}

/// Hundredths of one processor.
fn processors(stats: &StatsResponse, before: Option<&StatsResponse>) -> f64 {
    let Some(before) = before else {
        return 0.0;
    };
    let used = stats.cpu_ns.saturating_sub(before.cpu_ns) as f64;
    let all = stats.system_ns.saturating_sub(before.system_ns) as f64;
    if all <= 0.0 {
        return 0.0;
    }
    used / all * f64::from(stats.cpus) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_busy_processor_of_two_is_a_hundred_percent() {
        let before = StatsResponse::default();
        let now = StatsResponse {
            cpu_ns: 500,
            system_ns: 1000,
            cpus: 2,
            ..StatsResponse::default()
        };
        assert_eq!(processors(&now, Some(&before)), 100.0);
        assert_eq!(processors(&now, None), 0.0);
    }
}
