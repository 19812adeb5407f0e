//! Numbers for Prometheus over plain HTTP: the daemon's own process, and what
//! its stores hold.
//!
//! One path, no state, no library: a request is read to the end of its head and
//! answered, and the connection closed.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use lite_core::{Core, blocking, counts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A head that is longer, or slower, is not one of a scraper.
const MAX_HEAD_BYTES: usize = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(5);
/// proc(5) counts processor time in these: a hundred a second on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;

/// Serves `/metrics` and containerd's `/v1/metrics` on `listener`.
pub async fn serve(listener: TcpListener, core: Core) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let core = core.clone();
                tokio::spawn(async move {
                    let answered = tokio::time::timeout(PATIENCE, answer(stream, core)).await;
                    tracing::trace!(?answered, "metrics asked for");
                });
            }
            Err(err) => {
                tracing::warn!(error = %err, "accept a connection for metrics");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, core: Core) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > MAX_HEAD_BYTES || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, body) = match line.splitn(3, |byte| *byte == b' ').nth(1) {
        Some(b"/metrics" | b"/v1/metrics") => match blocking(move || text(&core)).await {
            Ok(text) => ("200 OK", text),
            Err(err) => ("500 Internal Server Error", lite_core::chain(&err)),
        },
        _ => (
            "404 Not Found",
            "the metrics are at /v1/metrics\n".to_owned(),
        ),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// All numbers in Prometheus's text form.
fn text(core: &Core) -> lite_core::Result<String> {
    let mut text = String::new();
    process(&mut text);
    let all = counts::by_namespace(core)?;
    let mut table = |name: &str, help: &str, value: fn(&counts::Counts) -> u64| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for of in &all {
            let _ = writeln!(
                text,
                "{name}{{namespace=\"{}\"}} {}",
                of.namespace,
                value(of)
            );
        }
    };
    table("containerd_lite_images", "Names of images.", |of| of.images);
    table("containerd_lite_containers", "Container records.", |of| {
        of.containers
    });
    table("containerd_lite_snapshots", "Snapshots.", |of| of.snapshots);
    table(
        "containerd_lite_blobs",
        "Blobs in the content store.",
        |of| of.blobs,
    );
    table("containerd_lite_blob_bytes", "Their bytes.", |of| {
        of.blob_bytes
    });
    table("containerd_lite_leases", "Leases.", |of| of.leases);
    Ok(text)
}

/// What proc(5) says of this process; what it does not say is left out.
fn process(text: &mut String) {
    let mut put = |name: &str, kind: &str, help: &str, value: f64| {
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    };
    if let Some(pages) = number("/proc/self/statm", 1) {
        let bytes = pages as u64 * PAGE_BYTES;
        let help = "Resident memory in bytes.";
        put("process_resident_memory_bytes", "gauge", help, bytes as f64);
    }
    // After the name in parentheses, utime and stime are fields 11 and 12.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some((_, rest)) = stat.rsplit_once(')') {
        let field = |at| rest.split_whitespace().nth(at)?.parse::<f64>().ok();
        if let (Some(user), Some(system)) = (field(11), field(12)) {
            let help = "Processor time in seconds.";
            let seconds = (user + system) / TICKS_PER_SECOND;
            put("process_cpu_seconds_total", "counter", help, seconds);
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        put(
            "process_open_fds",
            "gauge",
            "Open descriptors.",
            open.count() as f64,
        );
    }
}

fn number(file: &str, field: usize) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.split_whitespace().nth(field)?.parse().ok()
}
