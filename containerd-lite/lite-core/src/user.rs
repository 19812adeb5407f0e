//! Who runs: `user[:group]` as typed, looked up in the image's own
//! `/etc/passwd` and `/etc/group`.

use std::fmt;

/// Numeric identity of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, the primary one first.
    pub groups: Vec<u32>,
}

/// Why a user cannot be resolved; Docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadUser {
    /// Neither a number nor a name in `/etc/passwd`.
    NoSuchUser(String),
    /// Neither a number nor a name in `/etc/group`.
    NoSuchGroup(String),
    /// A number that is no id.
    OutOfRange(String),
}

impl fmt::Display for BadUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchUser(user) => write!(
                f,
                "unable to find user {user}: no matching entries in passwd file"
            ),
            Self::NoSuchGroup(group) => write!(
                f,
                "unable to find group {group}: no matching entries in group file"
            ),
            Self::OutOfRange(id) => {
                write!(f, "uid or gid {id}: expected a number from 0 to 2147483647")
            }
        }
    }
}

impl std::error::Error for BadUser {}

/// One line of `passwd(5)`, as far as it matters here.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

/// One line of `group(5)`.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Lines that do not parse are passed over, as every libc does.
fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        fields.next()?;
        Some(Account {
            name,
            uid: fields.next()?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        fields.next()?;
        Some(Group {
            name,
            gid: fields.next()?.parse().ok()?,
            members: fields.next().unwrap_or(""),
        })
    })
}

/// Whether [`resolve`] could need the files at all for `typed`. Even a number
/// takes its primary group from `/etc/passwd`, so only `number:number` does not.
#[must_use]
pub fn needs_files(typed: &str) -> bool {
    match typed.split_once(':') {
        Some((user, group)) => user.parse::<u32>().is_err() || group.parse::<u32>().is_err(),
        None => true,
    }
}

/// The id of the group `typed`, a name in the contents of a `group(5)` file or
/// a number.
///
/// # Errors
/// When it is neither.
pub fn group(typed: &str, group: &str) -> Result<u32, BadUser> {
    let number = id(typed)?;
    let known = groups(group).find(|g| g.name == typed || Some(g.gid) == number);
    known
        .map(|g| g.gid)
        .or(number)
        .ok_or_else(|| BadUser::NoSuchGroup(typed.to_owned()))
}

/// Looks `typed` up; empty means root. `passwd` and `group` are the contents
/// of the image's files, empty where it has none.
///
/// # Errors
/// [`BadUser`] for a name that is not there and a number out of range.
pub fn resolve(typed: &str, passwd: &str, group: &str) -> Result<User, BadUser> {
    let (who, of_group) = typed.split_once(':').unwrap_or((typed, ""));
    let who = if who.is_empty() { "0" } else { who };
    let number = id(who)?;
    let account = accounts(passwd).find(|a| a.name == who || Some(a.uid) == number);
    let uid = match (&account, number) {
        (Some(account), _) => account.uid,
        (None, Some(number)) => number,
        (None, None) => return Err(BadUser::NoSuchUser(who.to_owned())),
    };
    if !of_group.is_empty() {
        let number = id(of_group)?;
        let known = groups(group).find(|g| g.name == of_group || Some(g.gid) == number);
        let gid = known.map(|g| g.gid).or(number);
        let gid = gid.ok_or_else(|| BadUser::NoSuchGroup(of_group.to_owned()))?;
        return Ok(User {
            uid,
            gid,
            groups: vec![gid],
        });
    }
    let gid = account.as_ref().map_or(0, |a| a.gid);
    let mut all = vec![gid];
    if let Some(account) = account {
        let member = |g: &Group<'_>| g.members.split(',').any(|m| m == account.name);
        all.extend(
            groups(group)
                .filter(member)
                .map(|g| g.gid)
                .filter(|g| *g != gid),
        );
    }
    Ok(User {
        uid,
        gid,
        groups: all,
    })
}

fn id(text: &str) -> Result<Option<u32>, BadUser> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    // The kernel's own "no id" is the top of the unsigned range.
    let number = text.parse().ok().filter(|n| i32::try_from(*n).is_ok());
    number
        .map(Some)
        .ok_or_else(|| BadUser::OutOfRange(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nwww:x:33:34:w:/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,www\nweb:x:34:www\nusers:x:100:bob\n";

    #[track_caller]
    fn check(typed: &str, uid: u32, gid: u32, groups: &[u32]) {
        let want = User {
            uid,
            gid,
            groups: groups.to_vec(),
        };
        assert_eq!(resolve(typed, PASSWD, GROUP), Ok(want), "{typed:?}");
    }

    #[test]
    fn users_and_groups_by_name_and_number() {
        check("", 0, 0, &[0, 10]);
        check("root", 0, 0, &[0, 10]);
        check("www", 33, 34, &[34, 10]);
        check("33", 33, 34, &[34, 10]);
        check("www:users", 33, 100, &[100]);
        check("www:7", 33, 7, &[7]);
        check("1000", 1000, 0, &[0]);
        check("1000:1000", 1000, 1000, &[1000]);
        check(":users", 0, 100, &[100]);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let fail = |typed| resolve(typed, PASSWD, GROUP).unwrap_err().to_string();
        assert_eq!(
            fail("nobody"),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            fail("www:none"),
            "unable to find group none: no matching entries in group file"
        );
        assert_eq!(
            fail("4294967295"),
            "uid or gid 4294967295: expected a number from 0 to 2147483647"
        );
    }

    #[test]
    fn an_image_without_files_knows_only_numbers() {
        assert_eq!(
            resolve("", "", ""),
            Ok(User {
                uid: 0,
                gid: 0,
                groups: vec![0]
            })
        );
        assert_eq!(
            resolve("root", "", ""),
            Err(BadUser::NoSuchUser("root".to_owned()))
        );
    }

    #[test]
    fn two_numbers_need_no_files() {
        assert!(!needs_files("1:2"));
        assert!(needs_files("1") && needs_files("a:1") && needs_files("1:a") && needs_files(""));
    }
}
