//! Whether and when a container starts again after its end: no clock, no lock
//! and no I/O.

use std::time::Duration;

use crate::host_config::RestartPolicy;

/// The first wait; each further one is twice the last.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// No wait is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// A run this long counts as healthy, and the delay starts over.
const HEALTHY_RUN: Duration = Duration::from_secs(10);

/// How a run ended, as far as the policy asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// Exit code.
    pub(crate) code: i32,
    /// The user stopped or killed it.
    pub(crate) stopped: bool,
    /// Starts by the policy so far.
    pub(crate) restarts: u32,
    /// How long it ran.
    pub(crate) ran_for: Duration,
    /// The last wait; zero for none.
    pub(crate) last_delay: Duration,
}

/// How long to wait before the next start; `None` to leave it ended.
pub(crate) fn after(policy: RestartPolicy, end: &End) -> Option<Duration> {
    let wanted = match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => !end.stopped,
        RestartPolicy::OnFailure { most } => {
            !end.stopped && end.code != 0 && most.is_none_or(|most| end.restarts < most)
        }
    };
    let delay = if end.ran_for >= HEALTHY_RUN || end.last_delay.is_zero() {
        FIRST_DELAY
    } else {
        end.last_delay * 2
    };
    wanted.then_some(delay.min(LONGEST_DELAY))
}

/// Whether a container that had ended starts with the daemon.
pub(crate) fn with_daemon(policy: RestartPolicy, stopped: bool) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !stopped,
        RestartPolicy::No | RestartPolicy::OnFailure { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: End = End {
        code: 1,
        stopped: false,
        restarts: 0,
        ran_for: Duration::ZERO,
        last_delay: Duration::ZERO,
    };

    #[test]
    fn only_what_the_policy_names_starts_again() {
        let starts = |policy: &str, end: End| after(policy.parse().unwrap(), &end).is_some();
        assert!(!starts("no", END));
        assert!(starts("always", END) && starts("always", End { code: 0, ..END }));
        assert!(!starts(
            "always",
            End {
                stopped: true,
                ..END
            }
        ));
        assert!(starts("on-failure", END));
        assert!(!starts("on-failure", End { code: 0, ..END }));
        assert!(starts("on-failure:2", End { restarts: 1, ..END }));
        assert!(!starts("on-failure:2", End { restarts: 2, ..END }));
    }

    #[test]
    fn waits_double_up_to_a_minute_and_start_over_after_a_long_run() {
        let wait = |last_ms: u64, ran_s: u64| {
            let end = End {
                last_delay: Duration::from_millis(last_ms),
                ran_for: Duration::from_secs(ran_s),
                ..END
            };
            after(RestartPolicy::Always, &end).unwrap().as_millis()
        };
        assert_eq!(
            (wait(0, 0), wait(100, 1), wait(50_000, 1)),
            (100, 200, 60_000)
        );
        assert_eq!(wait(50_000, 10), 100);
    }

    #[test]
    fn a_stopped_container_comes_back_with_the_daemon_only_by_always() {
        assert!(with_daemon(RestartPolicy::Always, true));
        assert!(!with_daemon(RestartPolicy::UnlessStopped, true));
        assert!(with_daemon(RestartPolicy::UnlessStopped, false));
        assert!(!with_daemon(RestartPolicy::OnFailure { most: None }, false));
    }
}
