//! Health checks: one more process in the container now and then, whose exit
//! code says how the container is.
//!
//! [`Health::after`] is the rule, without clock and I/O; [`spawn`] runs the
//! checks of one run of a container until it is aborted.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::engine::Engine;
use crate::events::Event;
use crate::exec::{self, Exec};
use crate::host_config::HealthCheck;
use crate::record::Record;
use crate::rfc3339;
use crate::signals::Signal;
use crate::streams::ToClient;

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// So many checks are remembered, each with so many bytes of output.
const REMEMBERED: usize = 5;
const OUTPUT: usize = 4096;

/// What the checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No check counts yet.
    Starting,
    /// The last one was good.
    Healthy,
    /// Too many in a row were not.
    Unhealthy,
}

impl Status {
    /// Docker's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// When it began.
    #[serde(with = "rfc3339::optional")]
    pub start: Option<SystemTime>,
    /// When it ended.
    #[serde(with = "rfc3339::optional")]
    pub end: Option<SystemTime>,
    /// 0 is good; -1 is a check that could not be made or took too long.
    pub exit_code: i32,
    /// What it said.
    pub output: String,
}

/// What is known of a container's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The sum of it.
    pub status: Status,
    /// Failures in a row.
    pub streak: u32,
    /// The last checks, oldest first.
    pub log: Vec<Check>,
}

impl Health {
    /// What is known after one more check. Failures while the container is
    /// still `starting` do not count.
    #[must_use]
    pub fn after(mut self, check: Check, retries: u32, in_start_period: bool) -> Self {
        if check.exit_code == 0 {
            self.streak = 0;
            self.status = Status::Healthy;
        } else if !(in_start_period && self.status == Status::Starting) {
            self.streak += 1;
            if self.streak >= retries {
                self.status = Status::Unhealthy;
            }
        }
        self.log.push(check);
        if self.log.len() > REMEMBERED {
            self.log.remove(0);
        }
        self
    }

    /// `State.Health` of the Engine API.
    #[must_use]
    pub fn json(&self) -> Value {
        let time = |time: Option<SystemTime>| time.map_or_else(String::new, rfc3339::format);
        let log = self.log.iter().map(|check| {
            json!({
                "Start": time(check.start),
                "End": time(check.end),
                "ExitCode": check.exit_code,
                "Output": check.output,
            })
        });
        json!({
            "Status": self.status.word(),
            "FailingStreak": self.streak,
            "Log": log.collect::<Vec<_>>(),
        })
    }
}

/// The check that holds: the user's fields over the image's.
#[must_use]
pub fn merge(user: Option<&HealthCheck>, image: Option<&HealthCheck>) -> Option<HealthCheck> {
    let (user, image) = match (user, image) {
        (None, image) => return image.cloned(),
        (Some(user), None) => return Some(user.clone()),
        (Some(user), Some(image)) => (user, image),
    };
    let or = |own: i64, other: i64| if own == 0 { other } else { own };
    Some(HealthCheck {
        test: if user.test.is_empty() {
            image.test.clone()
        } else {
            user.test.clone()
        },
        interval_ns: or(user.interval_ns, image.interval_ns),
        timeout_ns: or(user.timeout_ns, image.timeout_ns),
        start_period_ns: or(user.start_period_ns, image.start_period_ns),
        start_interval_ns: or(user.start_interval_ns, image.start_interval_ns),
        retries: if user.retries == 0 {
            image.retries
        } else {
            user.retries
        },
    })
}

/// The `Healthcheck` of an image's configuration.
#[must_use]
pub fn of_image(config: &Value) -> Option<HealthCheck> {
    let check = &config["config"]["Healthcheck"];
    let test = check["Test"].as_array()?;
    let number = |key: &str| check[key].as_i64().unwrap_or(0);
    Some(HealthCheck {
        test: test
            .iter()
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect(),
        interval_ns: number("Interval"),
        timeout_ns: number("Timeout"),
        start_period_ns: number("StartPeriod"),
        start_interval_ns: number("StartInterval"),
        retries: i32::try_from(number("Retries")).unwrap_or(0),
    })
}

/// A check as it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    args: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u32,
}

fn plan(check: &HealthCheck) -> Option<Plan> {
    let (kind, words) = check.test.split_first()?;
    let args = match kind.as_str() {
        "CMD" if !words.is_empty() => words.to_vec(),
        "CMD-SHELL" if !words.is_empty() => {
            vec!["/bin/sh".to_owned(), "-c".to_owned(), words.join(" ")]
        }
        _ => return None,
    };
    let length = |nanos: i64, default: Duration| match u64::try_from(nanos) {
        Ok(0) | Err(_) => default,
        Ok(nanos) => Duration::from_nanos(nanos),
    };
    Some(Plan {
        args,
        interval: length(check.interval_ns, INTERVAL),
        timeout: length(check.timeout_ns, TIMEOUT),
        start_period: length(check.start_period_ns, Duration::ZERO),
        start_interval: length(check.start_interval_ns, START_INTERVAL),
        retries: u32::try_from(check.retries)
            .ok()
            .filter(|retries| *retries > 0)
            .unwrap_or(RETRIES),
    })
}

/// The health of a container that has just been started.
pub(crate) fn first(record: &Record) -> Option<Health> {
    record.config.health.as_ref().and_then(plan)?;
    Some(Health {
        status: Status::Starting,
        streak: 0,
        log: Vec::new(),
    })
}

/// Checks the running container until it is aborted.
pub(crate) fn spawn(engine: &Engine, record: &Record) -> Option<tokio::task::JoinHandle<()>> {
    let plan = record.config.health.as_ref().and_then(plan)?;
    let (engine, id) = (engine.clone(), record.id.clone());
    let started = record.run.started_at.unwrap_or_else(SystemTime::now);
    // On the heap: an exec is a large future.
    Some(tokio::spawn(Box::pin(run(engine, id, plan, started))))
}

async fn run(engine: Engine, id: String, plan: Plan, started: SystemTime) {
    loop {
        let starting = started.elapsed().unwrap_or_default() < plan.start_period;
        tokio::time::sleep(if starting {
            plan.start_interval
        } else {
            plan.interval
        })
        .await;
        let Ok(handle) = engine.find(&id) else {
            return;
        };
        if handle.record().run.paused {
            continue;
        }
        let starting = started.elapsed().unwrap_or_default() < plan.start_period;
        let check = make(&engine, &id, &plan).await;
        let (before, retries) = (handle.record(), plan.retries);
        let changed = handle.change(move |record| {
            if let Some(health) = record.run.health.take() {
                record.run.health = Some(health.after(check, retries, starting));
            }
        });
        if changed.await.is_err() {
            return;
        }
        let after = handle.record();
        let status = |record: &Record| record.run.health.as_ref().map(|health| health.status);
        if let Some(now) = status(&after)
            && status(&before) != Some(now)
        {
            engine.emit(Event::of_container(
                &after,
                &format!("health_status: {}", now.word()),
            ));
        }
    }
}

/// Makes one check.
async fn make(engine: &Engine, id: &str, plan: &Plan) -> Check {
    let start = SystemTime::now();
    let mut output = Vec::new();
    let mut exec_id = String::new();
    let outcome = tokio::time::timeout(
        plan.timeout,
        probe(engine, id, plan, &mut exec_id, &mut output),
    )
    .await;
    let exit_code = match outcome {
        Ok(Ok(code)) => code,
        Ok(Err(err)) => {
            output = lite_core::chain(&err).into_bytes();
            -1
        }
        Err(_) => {
            if !exec_id.is_empty() {
                let tasks = &engine.core().tasks;
                let kill = tasks.kill(
                    engine.ns(),
                    id,
                    Some(&exec_id),
                    Signal::KILL.number(),
                    false,
                );
                // It may have ended just now.
                let _ = kill.await;
            }
            output = format!("Health check exceeded timeout ({:?})", plan.timeout).into_bytes();
            -1
        }
    };
    output.truncate(OUTPUT);
    Check {
        start: Some(start),
        end: Some(SystemTime::now()),
        exit_code,
        output: String::from_utf8_lossy(&output).into_owned(),
    }
}

async fn probe(
    engine: &Engine,
    id: &str,
    plan: &Plan,
    exec_id: &mut String,
    output: &mut Vec<u8>,
) -> lite_core::Result<i32> {
    let request = Exec {
        container: id.to_owned(),
        args: plan.args.clone(),
        ..Exec::default()
    };
    // Nothing is sent; the sender stays, as its end would be a detach.
    let (_silent, inputs) = mpsc::channel(1);
    let mut receiver = exec::exec(engine, request, inputs).await?;
    while let Some(message) = receiver.recv().await {
        match message? {
            ToClient::Started { exec_id: id, .. } => *exec_id = id,
            ToClient::Stdout(bytes) | ToClient::Stderr(bytes) => {
                let room = OUTPUT.saturating_sub(output.len());
                output.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            ToClient::Exited(code) => return Ok(code),
        }
    }
    Ok(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exit_code: i32) -> Check {
        Check {
            start: None,
            end: None,
            exit_code,
            output: String::new(),
        }
    }

    fn starting() -> Health {
        Health {
            status: Status::Starting,
            streak: 0,
            log: Vec::new(),
        }
    }

    #[test]
    fn enough_failures_in_a_row_are_unhealthy_and_one_success_is_healthy() {
        let health = starting().after(check(1), 2, false);
        assert_eq!((health.status, health.streak), (Status::Starting, 1));
        let health = health.after(check(1), 2, false);
        assert_eq!(health.status, Status::Unhealthy);
        let health = health.after(check(0), 2, false);
        assert_eq!((health.status, health.streak), (Status::Healthy, 0));
    }

    #[test]
    fn failures_of_a_start_do_not_count() {
        let health = starting().after(check(1), 1, true);
        assert_eq!((health.status, health.streak), (Status::Starting, 0));
        let health = health.after(check(0), 1, true).after(check(1), 1, true);
        assert_eq!(health.status, Status::Unhealthy);
    }

    #[test]
    fn the_last_five_are_remembered() {
        let health = (0..9).fold(starting(), |health, code| {
            health.after(check(code), 3, false)
        });
        let codes: Vec<i32> = health.log.iter().map(|check| check.exit_code).collect();
        assert_eq!(codes, [4, 5, 6, 7, 8]);
    }

    #[test]
    fn the_users_fields_go_over_the_images() {
        let image = HealthCheck {
            test: vec!["CMD".to_owned(), "a".to_owned()],
            interval_ns: 1,
            retries: 7,
            ..HealthCheck::default()
        };
        let user = HealthCheck {
            interval_ns: 2,
            ..HealthCheck::default()
        };
        let both = merge(Some(&user), Some(&image)).unwrap();
        assert_eq!((both.interval_ns, both.retries, both.test.len()), (2, 7, 2));
        let none = HealthCheck {
            test: vec!["NONE".to_owned()],
            ..HealthCheck::default()
        };
        assert!(plan(&merge(Some(&none), Some(&image)).unwrap()).is_none());
        assert_eq!(plan(&image).unwrap().args, ["a"]);
    }
}
