//! What init and its parent tell each other, over a socket pair that keeps messages apart.
//!
//! Every failure crosses as data: the number of the step in the plan, the kernel's error number, and where the program of the
//! process is at fault, how. The parent owns the words. A closed socket after [`FromInit::Ready`] and the word to start means
//! that exec succeeded, as the descriptor closes on exec.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::phrases::ProgramFault;

/// From init to its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FromInit {
    /// The real init is this process; sent by the one that only joined a user namespace.
    Pid(i32),
    /// Run prestart and createRuntime hooks now.
    RunHooks,
    /// Everything but exec is done.
    Ready,
    /// The step of this number did not succeed.
    Failed {
        step: u32,
        errno: i32,
        fault: Option<ProgramFault>,
        subject: String,
    },
}

/// From the parent to init: go on. Its meaning follows from where init is in the plan.
const GO_ON: &[u8] = b"g";

/// Longer subjects than this are cut.
const MAX_SUBJECT: usize = 4096;

/// One end of the conversation.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// The parent's end and init's end.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Self(a), Self(b)))
    }

    pub(crate) fn go_on(&self) -> io::Result<()> {
        kernel::scm::send(self.0.as_fd(), GO_ON, &[]).map(drop)
    }

    /// Waits for [`Channel::go_on`] of the other side. `EPIPE` if it is gone.
    pub(crate) fn await_go_on(&self) -> io::Result<()> {
        let mut buffer = [0; 8];
        match kernel::scm::recv(self.0.as_fd(), &mut buffer, 0)? {
            (0, _) => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn tell(&self, message: &FromInit) -> io::Result<()> {
        kernel::scm::send(self.0.as_fd(), &encode(message), &[]).map(drop)
    }

    /// The next message; `None` when init has closed its end.
    pub(crate) fn hear(&self) -> io::Result<Option<FromInit>> {
        let mut buffer = [0; MAX_SUBJECT + 64];
        match kernel::scm::recv(self.0.as_fd(), &mut buffer, 0)? {
            (0, _) => Ok(None),
            (len, _) => decode(&buffer[..len])
                .map(Some)
                .ok_or_else(|| io::ErrorKind::InvalidData.into()),
        }
    }
}

fn encode(message: &FromInit) -> Vec<u8> {
    match message {
        FromInit::Pid(pid) => [b"p".as_slice(), &pid.to_ne_bytes()].concat(),
        FromInit::RunHooks => b"h".to_vec(),
        FromInit::Ready => b"r".to_vec(),
        FromInit::Failed {
            step,
            errno,
            fault,
            subject,
        } => {
            let (number, about) = fault
                .as_ref()
                .map_or((0, subject.as_str()), ProgramFault::encode);
            let about = if fault.is_some() {
                format!("{subject}\0{about}")
            } else {
                about.to_owned()
            };
            let about = &about.as_bytes()[..about.len().min(MAX_SUBJECT)];
            [
                b"f".as_slice(),
                &step.to_ne_bytes(),
                &errno.to_ne_bytes(),
                &[number],
                about,
            ]
            .concat()
        }
    }
}

fn decode(bytes: &[u8]) -> Option<FromInit> {
    let (kind, rest) = bytes.split_first()?;
    match kind {
        b'p' => Some(FromInit::Pid(i32::from_ne_bytes(rest.try_into().ok()?))),
        b'h' => Some(FromInit::RunHooks),
        b'r' => Some(FromInit::Ready),
        b'f' => {
            let (step, rest) = rest.split_first_chunk::<4>()?;
            let (errno, rest) = rest.split_first_chunk::<4>()?;
            let (number, about) = rest.split_first()?;
            let about = String::from_utf8_lossy(about);
            let (subject, detail) = about.split_once('\0').unwrap_or((about.as_ref(), ""));
            Some(FromInit::Failed {
                step: u32::from_ne_bytes(*step),
                errno: i32::from_ne_bytes(*errno),
                fault: ProgramFault::decode(*number, detail),
                subject: subject.to_owned(),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_sent() {
        let (parent, init) = Channel::pair().unwrap();
        for message in [
            FromInit::Pid(7),
            FromInit::RunHooks,
            FromInit::Ready,
            FromInit::Failed {
                step: 3,
                errno: 13,
                fault: None,
                subject: "/proc".into(),
            },
            FromInit::Failed {
                step: 9,
                errno: 0,
                fault: Some(ProgramFault::Interpreter("/lib/ld.so".into())),
                subject: "/bin/x".into(),
            },
        ] {
            init.tell(&message).unwrap();
            assert_eq!(parent.hear().unwrap(), Some(message));
        }
        drop(init);
        assert_eq!(parent.hear().unwrap(), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            drop(decode(&bytes));
        }
    }
}
