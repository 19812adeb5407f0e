//! Where a session's output is kept: one of the drivers, or nowhere.

use std::cell::{Cell, RefCell};
use std::io;

use super::cri_log::CriLog;
use super::json_log::JsonLog;
use super::lines::Output;
use super::remote::{Kind, Remote};
use super::uri::LogUri;
use crate::failure::warn;

/// An open log.
pub(super) struct Log {
    driver: Driver,
    /// Whether the last write failed: a full disk is told of once.
    failing: Cell<bool>,
}

enum Driver {
    None,
    Json(RefCell<JsonLog>),
    Cri(RefCell<CriLog>),
    Remote(Remote),
}

impl Log {
    /// Opens the log that `uri` asks for.
    pub(super) fn open(uri: &LogUri) -> io::Result<Self> {
        let driver = match uri {
            LogUri::None => Driver::None,
            LogUri::Json(uri) => Driver::Json(RefCell::new(JsonLog::open(uri)?)),
            LogUri::Cri(path) => Driver::Cri(RefCell::new(CriLog::open(path)?)),
            LogUri::Journald(uri) => Driver::Remote(Remote::new(Kind::Journald(uri.clone()))),
            LogUri::Syslog(uri) => Driver::Remote(Remote::new(Kind::Syslog(uri.clone()))),
        };
        Ok(Self {
            driver,
            failing: Cell::new(false),
        })
    }

    /// Takes in `bytes` of `output`.
    pub(super) async fn append(&self, output: Output, bytes: &[u8]) {
        match &self.driver {
            Driver::None => {}
            Driver::Json(log) => self.judge(log.borrow_mut().append(output, bytes)),
            Driver::Cri(log) => self.judge(log.borrow_mut().append(output, bytes)),
            Driver::Remote(log) => log.append(output, bytes).await,
        }
    }

    /// Takes in the last line of `output`, which will not grow any more.
    pub(super) async fn finish(&self, output: Output) {
        match &self.driver {
            Driver::None => {}
            Driver::Json(log) => self.judge(log.borrow_mut().finish(output)),
            Driver::Cri(log) => self.judge(log.borrow_mut().finish(output)),
            Driver::Remote(log) => log.finish(output).await,
        }
    }

    fn judge(&self, written: io::Result<()>) {
        let failed = written.is_err();
        let failing = self.failing.replace(failed);
        if let Err(err) = written
            && !failing
        {
            warn("write the container's log, lines are lost", &err);
        }
    }
}
