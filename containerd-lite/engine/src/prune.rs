//! Removes containers that do not run.

use std::time::{Duration, SystemTime};

use lite_core::{Kind, Result, chain};

use crate::engine::{Engine, SNAPSHOTTER};
use crate::list_filter::Filter;
use crate::rfc3339;
use crate::state::Phase;
use crate::volumes::Pruned;

/// Removes the containers that do not run and that `filters` let through. One
/// that cannot be removed is left and told in the log.
///
/// # Errors
/// InvalidArgument for a filter there is not.
pub async fn containers(engine: &Engine, filters: &[String]) -> Result<Pruned> {
    let filter = Filter::parse(filters, &["label", "label!", "until"])?;
    let until = filter
        .values("until")
        .last()
        .map(|text| moment(text))
        .transpose()?;
    let mut pruned = Pruned::default();
    for handle in engine.handles() {
        let record = handle.record();
        let at_rest = matches!(record.phase, Phase::Created | Phase::Exited | Phase::Dead)
            && !record.run.restarting;
        let old = until.is_none_or(|until| record.created_at.is_some_and(|made| made < until));
        if !at_rest || !old || !filter.labels(&record.config.labels) {
            continue;
        }
        let size = {
            let (engine, id) = (engine.clone(), record.id.clone());
            let usage = move || engine.core().snapshots.usage(engine.ns(), SNAPSHOTTER, &id);
            lite_core::blocking(usage)
                .await
                .map_or(0, |usage| usage.size)
        };
        match handle.remove(false, false).await {
            Ok(()) => {
                pruned.removed.push(record.id.clone());
                pruned.reclaimed += size;
            }
            Err(err) => {
                tracing::warn!(container_id = record.id, error = %chain(&err), "prune container");
            }
        }
    }
    Ok(pruned)
}

/// A point in time: RFC 3339, seconds since 1970, or a length of time back
/// from now such as `10m` or `1h30m`.
///
/// # Errors
/// InvalidArgument for anything else.
pub fn moment(text: &str) -> Result<SystemTime> {
    let bad = || {
        Kind::InvalidArgument.error(format!(
            "invalid time {text:?}: expected a timestamp, or a duration such as 10m"
        ))
    };
    if let Some(time) = rfc3339::parse(text) {
        return Ok(time);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds)
            .map(|since| SystemTime::UNIX_EPOCH + since)
            .map_err(|_| bad());
    }
    let ago = go_duration(text).ok_or_else(bad)?;
    SystemTime::now().checked_sub(ago).ok_or_else(bad)
}

/// Go's form of a length of time: `1h30m`, `1.5s`, `300ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_stamps_or_lengths() {
        assert_eq!(
            moment("100").unwrap(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(100)
        );
        assert!(moment("2024-05-06T07:08:09Z").is_ok());
        assert_eq!(go_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(go_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert!(moment("x").is_err() && moment("").is_err() && moment("10q").is_err());
    }
}
