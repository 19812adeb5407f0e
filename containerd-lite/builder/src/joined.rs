//! The network of a step. The builder makes none: whoever puts the daemon together lends it one for each step, and gets it
//! back when the step is over.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use lite_core::Result;

/// What a step wants of its network.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The task's id.
    pub id: &'a str,
    /// It shares the host's network.
    pub on_host: bool,
    /// More lines of `/etc/hosts`, `name:address` or `name:host-gateway`.
    pub extra_hosts: &'a [String],
}

/// A step's place on a network, until it is dropped.
pub struct Joined {
    /// The file that its namespace is pinned to; `None` on the host's network.
    pub netns: Option<PathBuf>,
    /// Text of `/etc/hosts`.
    pub hosts: String,
    /// Text of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Takes the step off the network.
    pub leave: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl fmt::Debug for Joined {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Joined").field(&self.netns).finish()
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            leave();
        }
    }
}

type Joining = dyn Fn(&Wish<'_>) -> Result<Joined> + Send + Sync;

/// Puts a step on a network. Blocks, as does dropping what it returns.
#[derive(Clone)]
pub struct Join(Arc<Joining>);

impl Join {
    /// With `join` to do it.
    pub fn new(join: impl Fn(&Wish<'_>) -> Result<Joined> + Send + Sync + 'static) -> Self {
        Self(Arc::new(join))
    }

    /// Puts a step on a network.
    ///
    /// # Errors
    /// What the network says.
    pub fn join(&self, wish: &Wish<'_>) -> Result<Joined> {
        (self.0)(wish)
    }
}

impl fmt::Debug for Join {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Join")
    }
}
