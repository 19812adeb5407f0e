//! The environment of a container's processes.

/// Where programs are looked for when neither image nor user says.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The container's configured environment: the user's entries first, then
/// those of the image whose keys the user did not set.
#[must_use]
pub fn merge(user: &[String], image: &[String]) -> Vec<String> {
    let mut merged = user.to_vec();
    merged.extend(
        image
            .iter()
            .filter(|entry| !user.iter().any(|own| key(own) == key(entry)))
            .cloned(),
    );
    merged
}

/// What the first process sees: defaults that `configured` may override. An
/// entry without `=` takes the variable away. `HOME` is the runtime's to set,
/// which knows the user's home directory.
#[must_use]
pub fn of_process(configured: &[String], hostname: &str, tty: bool) -> Vec<String> {
    let mut result = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if tty {
        result.push("TERM=xterm".to_owned());
    }
    over(&mut result, configured);
    result
}

/// Puts `changes` over `base` in place: replaced where the key is there,
/// appended where it is not, taken away where the change has no `=`.
pub fn over(base: &mut Vec<String>, changes: &[String]) {
    for change in changes {
        let at = base.iter().position(|entry| key(entry) == key(change));
        match (at, change.contains('=')) {
            (Some(at), true) => base[at].clone_from(change),
            (Some(at), false) => {
                base.remove(at);
            }
            (None, true) => base.push(change.clone()),
            (None, false) => {}
        }
    }
}

fn key(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_user_wins_over_the_image() {
        assert_eq!(merge(&list("A=1 B="), &list("A=0 C=3")), list("A=1 B= C=3"));
    }

    #[test]
    fn defaults_give_way_and_can_be_taken_away() {
        assert_eq!(
            of_process(&list("PATH=/x TERM Z=1"), "h", true),
            list("PATH=/x HOSTNAME=h Z=1")
        );
        assert_eq!(
            of_process(&[], "h", true),
            [DEFAULT_PATH, "HOSTNAME=h", "TERM=xterm"]
        );
        assert_eq!(of_process(&[], "h", false), [DEFAULT_PATH, "HOSTNAME=h"]);
    }
}
