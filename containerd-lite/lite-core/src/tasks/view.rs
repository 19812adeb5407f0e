//! What is known of a task, and how it changes. No clock, no I/O: reports come
//! in from the shim in any order and more than once, and the view ends up the
//! same.

use std::collections::BTreeMap;

use crate::shim::{Exit, ProcessState, Status};

/// A task's processes as last seen; what clients read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) init: ProcessState,
    pub(super) execs: BTreeMap<String, ProcessState>,
}

impl View {
    /// A task with nothing but its init.
    pub(super) fn new(init: ProcessState) -> Self {
        Self {
            init,
            execs: BTreeMap::new(),
        }
    }

    /// Init, or the exec `exec` if it is known.
    pub(super) fn process(&self, exec: Option<&str>) -> Option<&ProcessState> {
        match exec {
            None => Some(&self.init),
            Some(exec) => self.execs.get(exec),
        }
    }

    fn process_mut(&mut self, exec: Option<&str>) -> Option<&mut ProcessState> {
        match exec {
            None => Some(&mut self.init),
            Some(exec) => self.execs.get_mut(exec),
        }
    }

    /// A process was started. Its exit may have been reported before this.
    pub(super) fn started(&mut self, exec: Option<&str>, pid: u32) {
        if let Some(process) = self.process_mut(exec) {
            process.pid = pid;
            if process.exit.is_none() {
                process.status = Status::Running;
            }
        }
    }

    /// A process has ended. The first report counts; later ones change nothing.
    pub(super) fn exited(&mut self, exec: Option<&str>, exit: Exit) {
        if let Some(process) = self.process_mut(exec)
            && process.exit.is_none()
        {
            process.exit = Some(exit);
            process.status = Status::Stopped;
        }
    }

    /// Init was frozen or goes on; nothing but a live task can do either.
    pub(super) fn paused(&mut self, paused: bool) {
        if matches!(
            self.init.status,
            Status::Running | Status::Paused | Status::Pausing
        ) {
            self.init.status = if paused {
                Status::Paused
            } else {
                Status::Running
            };
        }
    }

    /// Whether a process is under way, so that it cannot be deleted.
    pub(super) fn is_running(&self, exec: Option<&str>) -> bool {
        self.process(exec).is_some_and(|process| {
            matches!(
                process.status,
                Status::Running | Status::Paused | Status::Pausing
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::shim::TaskIo;

    fn view() -> View {
        let init = ProcessState {
            id: "c".to_owned(),
            pid: 7,
            status: Status::Created,
            io: TaskIo::default(),
            exit: None,
        };
        View::new(init)
    }

    const EXIT: Exit = Exit {
        code: 3,
        at: UNIX_EPOCH,
    };

    #[test]
    fn an_exit_reported_before_its_start_is_kept() {
        let mut view = view();
        view.exited(None, EXIT);
        view.started(None, 7);
        assert_eq!(
            (view.init.status, view.init.exit),
            (Status::Stopped, Some(EXIT))
        );
    }

    #[test]
    fn the_first_exit_counts() {
        let mut view = view();
        view.started(None, 7);
        view.exited(None, EXIT);
        view.exited(
            None,
            Exit {
                code: 255,
                at: UNIX_EPOCH,
            },
        );
        assert_eq!(view.init.exit, Some(EXIT));
    }

    #[test]
    fn only_a_live_task_is_paused() {
        let mut view = view();
        view.paused(true);
        assert_eq!(view.init.status, Status::Created);
        view.started(None, 7);
        view.paused(true);
        assert_eq!(
            (view.init.status, view.is_running(None)),
            (Status::Paused, true)
        );
        view.exited(None, EXIT);
        view.paused(false);
        assert_eq!(view.init.status, Status::Stopped);
    }

    #[test]
    fn reports_on_unknown_execs_change_nothing() {
        let mut view = view();
        view.exited(Some("e"), EXIT);
        view.started(Some("e"), 9);
        assert_eq!(view, self::view());
    }
}
