//! One-time tokens: what a URL stands for, until it is opened or has expired.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

/// So many may wait to be opened.
const MOST: usize = 1000;

/// There are too many URLs that nobody has opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} streams wait to be opened; open one or wait for one to expire")]
pub struct TooMany;

/// What waits to be opened.
pub(crate) struct Tokens<T> {
    life: Duration,
    waiting: Mutex<HashMap<String, (Instant, T)>>,
}

impl<T> Tokens<T> {
    pub(crate) fn new(life: Duration) -> Self {
        Self {
            life,
            waiting: Mutex::new(HashMap::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Instant, T)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token, of 128 random bits, for `what`.
    pub(crate) fn issue(&self, what: T) -> Result<String, TooMany> {
        let mut bits = [0; 16];
        // The kernel's generator does not fail once it has begun.
        getrandom::fill(&mut bits).map_err(|_| TooMany)?;
        let token = BASE64.encode(bits);
        let mut waiting = self.lock();
        waiting.retain(|_, (since, _)| since.elapsed() < self.life);
        if waiting.len() >= MOST {
            return Err(TooMany);
        }
        waiting.insert(token.clone(), (Instant::now(), what));
        Ok(token)
    }

    /// What the token stands for, once.
    pub(crate) fn redeem(&self, token: &str) -> Option<T> {
        let (since, what) = self.lock().remove(token)?;
        (since.elapsed() < self.life).then_some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once() {
        let tokens = Tokens::new(Duration::from_secs(60));
        let (a, b) = (
            tokens.issue(1).expect("room"),
            tokens.issue(2).expect("room"),
        );
        assert_ne!(a, b);
        assert_eq!(a.len(), 22);
        assert_eq!(tokens.redeem(&b), Some(2));
        assert_eq!(tokens.redeem(&b), None);
        assert_eq!(tokens.redeem("x"), None);
        assert_eq!(tokens.redeem(&a), Some(1));
    }

    #[test]
    fn a_token_expires_and_makes_room() {
        let tokens = Tokens::new(Duration::ZERO);
        for n in 0..2 * MOST {
            let token = tokens.issue(n).expect("the others have expired");
            assert_eq!(tokens.redeem(&token), None);
        }
    }

    #[test]
    fn there_is_an_end_to_what_waits() {
        let tokens = Tokens::new(Duration::from_secs(3600));
        for n in 0..MOST {
            tokens.issue(n).expect("there is room");
        }
        assert_eq!(tokens.issue(0), Err(TooMany));
    }
}
