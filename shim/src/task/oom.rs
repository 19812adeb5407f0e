//! Tells of out-of-memory kills in a container.

use std::os::fd::AsFd;
use std::rc::Rc;

use cgroup::OomWatch;
use proto::containerd::events::TaskOom;

use super::{Container, Shim};
use crate::failure::warn;
use crate::readiness;

/// Watches the container's cgroup until its init has ended.
pub(super) fn watch(shim: &Rc<Shim>, container: &Rc<Container>) {
    let Some(group) = container.cgroup.borrow().clone() else {
        return;
    };
    let watch = match OomWatch::new(&group) {
        Ok(watch) => watch,
        Err(err) => return warn("watch for out-of-memory kills", &err),
    };
    let ready = match watch
        .as_fd()
        .try_clone_to_owned()
        .and_then(readiness::register)
    {
        Ok(ready) => ready,
        Err(err) => return warn("watch for out-of-memory kills", &err),
    };
    *container.oom.borrow_mut() = Some(watch);
    let (shim, container) = (Rc::clone(shim), Rc::clone(container));
    tokio::task::spawn_local(async move {
        let mut exit = container.init.exit.subscribe();
        loop {
            tokio::select! {
                ready = ready.readable() => match ready {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(_) => return,
                },
                _ = exit.wait_for(Option::is_some) => return,
            }
            tell(&shim, &container);
        }
    });
}

/// Tells of kills since the last call; before an exit is told, so that the
/// cause comes first.
pub(super) fn tell(shim: &Shim, container: &Container) {
    let kills = container
        .oom
        .borrow_mut()
        .as_mut()
        .map_or(0, OomWatch::kills);
    if kills > 0 {
        shim.publisher.publish(&TaskOom {
            container_id: container.id.clone(),
        });
    }
}
