//! When to try again. No clock and no I/O.

use std::time::Duration;

/// How often and after which pauses a request is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many times a request is made in all, at least once.
    pub attempts: u32,
    /// The pause after the first failure; each further one is twice as long.
    pub first_pause: Duration,
    /// No pause of our own choice is longer.
    pub longest_pause: Duration,
    /// A registry that asks for a longer pause than this gets no further
    /// attempt: a person waits at the other end.
    pub longest_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(5),
            longest_retry_after: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// The pause after `failed` failures in a row, or `None` to give up.
    #[must_use]
    pub fn pause(&self, failed: u32, retry_after: Option<Duration>) -> Option<Duration> {
        if failed >= self.attempts {
            return None;
        }
        let doublings = failed.saturating_sub(1).min(16);
        let own = self
            .first_pause
            .saturating_mul(1 << doublings)
            .min(self.longest_pause);
        match retry_after {
            Some(asked) if asked > self.longest_retry_after => None,
            Some(asked) => Some(asked.max(own)),
            None => Some(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            attempts: 5,
            first_pause: S(1),
            longest_pause: S(3),
            longest_retry_after: S(10),
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_end() {
        let pauses: Vec<_> = (1..=6).map(|failed| policy().pause(failed, None)).collect();
        assert_eq!(
            pauses,
            [Some(S(1)), Some(S(2)), Some(S(3)), Some(S(3)), None, None]
        );
    }

    #[test]
    fn the_registry_may_ask_for_a_longer_pause_within_limits() {
        assert_eq!(policy().pause(1, Some(S(7))), Some(S(7)));
        assert_eq!(policy().pause(2, Some(S(0))), Some(S(2)));
        assert_eq!(policy().pause(1, Some(S(11))), None);
        assert_eq!(policy().pause(5, Some(S(1))), None);
    }
}
