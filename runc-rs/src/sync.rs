//! What init and its parent tell each other, over a socket pair that keeps messages apart.
//!
//! Every failure crosses as data: the number of the step in the plan, the kernel's error number, and where the program of the
//! process is at fault, how. The parent owns the words. A closed socket after [`FromInit::Ready`] and the word to start means
//! that exec succeeded, as the descriptor closes on exec.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::phrases::ProgramFault;

/// From init to its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FromInit {
    /// The real init is this process; sent by the one that only joined a user namespace.
    Pid(i32),
    /// Run prestart and createRuntime hooks now.
    RunHooks,
    /// Move the host's network devices in now.
    MoveDevices,
    /// The kernel asks about system calls on this descriptor of init's; waits until it was taken.
    Listener(i32),
    /// The mount of this number in the config is the detached one behind this descriptor of init's, and wants its owners.
    Mount { at: u32, number: i32 },
    /// The mount that was asked for is there, or gone, and had this number.
    Mounted(u64),
    /// How long each step so far took, in microseconds; only where the parent wants to know.
    Times(Vec<u32>),
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

/// From the parent to init: the descriptor could not be taken, send it.
const SEND: &[u8] = b"s";

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
        self.answer().map(drop)
    }

    fn answer(&self) -> io::Result<u8> {
        let mut buffer = [0; 8];
        loop {
            match nix::unistd::read(&self.0, &mut buffer) {
                Ok(0) => return Err(io::ErrorKind::BrokenPipe.into()),
                Ok(_) => return Ok(buffer[0]),
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// By `write(2)`, which every filter that lets a program say anything allows.
    pub(crate) fn tell(&self, message: &FromInit) -> io::Result<()> {
        Ok(nix::unistd::write(&self.0, &encode(message)).map(drop)?)
    }

    /// Offers a filter's listener to the parent, and returns when it has it.
    pub(crate) fn offer(&self, listener: BorrowedFd<'_>) -> io::Result<()> {
        self.tell(&FromInit::Listener(listener.as_raw_fd()))?;
        if [self.answer()?] == SEND {
            kernel::scm::send(self.0.as_fd(), b"l", &[listener])?;
        }
        Ok(())
    }

    /// Offers a detached mount to the parent, and returns when it has changed the owners in it.
    pub(crate) fn offer_mount(&self, at: usize, mount: BorrowedFd<'_>) -> io::Result<()> {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        let number = mount.as_raw_fd();
        self.tell(&FromInit::Mount { at, number })?;
        self.await_go_on()
    }

    /// Takes the listener that init offers by its number there. Out of the process itself, as its filter may put `sendmsg(2)`
    /// to the very agent that is to get the listener; only where that is not allowed (without privileges) init sends it.
    pub(crate) fn take(&self, process: BorrowedFd<'_>, number: i32) -> io::Result<OwnedFd> {
        match kernel::process::pidfd_getfd(process, number) {
            Ok(listener) => self.go_on().map(|()| listener),
            Err(_) => {
                kernel::scm::send(self.0.as_fd(), SEND, &[])?;
                let mut buffer = [0; 8];
                let (_, mut fds) = kernel::scm::recv(self.0.as_fd(), &mut buffer, 1)?;
                fds.pop().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
        }
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
        FromInit::Mount { at, number } => {
            [b"m".as_slice(), &at.to_ne_bytes(), &number.to_ne_bytes()].concat()
        }
        FromInit::RunHooks => b"h".to_vec(),
        FromInit::MoveDevices => b"d".to_vec(),
        FromInit::Listener(number) => [b"l".as_slice(), &number.to_ne_bytes()].concat(),
        FromInit::Mounted(number) => [b"n".as_slice(), &number.to_ne_bytes()].concat(),
        FromInit::Times(times) => {
            let times = times.iter().take(MAX_SUBJECT / 4);
            let mut bytes = b"t".to_vec();
            bytes.extend(times.flat_map(|time| time.to_ne_bytes()));
            bytes
        }
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

pub(crate) fn decode(bytes: &[u8]) -> Option<FromInit> {
    let (kind, rest) = bytes.split_first()?;
    match kind {
        b'p' => Some(FromInit::Pid(i32::from_ne_bytes(rest.try_into().ok()?))),
        b'm' => {
            let (at, number) = rest.split_first_chunk::<4>()?;
            Some(FromInit::Mount {
                at: u32::from_ne_bytes(*at),
                number: i32::from_ne_bytes(number.try_into().ok()?),
            })
        }
        b'h' => Some(FromInit::RunHooks),
        b'd' => Some(FromInit::MoveDevices),
        b'l' => Some(FromInit::Listener(i32::from_ne_bytes(
            rest.try_into().ok()?,
        ))),
        b'n' => Some(FromInit::Mounted(u64::from_ne_bytes(rest.try_into().ok()?))),
        b't' => {
            let (times, rest) = rest.as_chunks::<4>();
            let times = times.iter().map(|time| u32::from_ne_bytes(*time));
            rest.is_empty().then(|| FromInit::Times(times.collect()))
        }
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
            FromInit::Mount { at: 3, number: 9 },
            FromInit::MoveDevices,
            FromInit::Listener(9),
            FromInit::Mounted(u64::MAX - 1),
            FromInit::Times(vec![0, 7, u32::MAX]),
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

    #[test]
    fn a_listener_is_taken_out_of_the_process_or_sent() {
        let own = kernel::process::pidfd_open(std::process::id() as i32).unwrap();
        for allowed in [true, false] {
            let (parent, init) = Channel::pair().unwrap();
            let offering = std::thread::spawn(move || {
                let null = std::fs::File::open("/dev/null").unwrap();
                init.offer(null.as_fd())
            });
            let Some(FromInit::Listener(number)) = parent.hear().unwrap() else {
                panic!("no listener was offered");
            };
            let number = if allowed { number } else { -1 };
            let taken = parent.take(own.as_fd(), number).unwrap();
            offering.join().unwrap().unwrap();
            let path = std::fs::read_link(format!("/proc/self/fd/{}", taken.as_raw_fd()));
            assert_eq!(path.unwrap(), std::path::Path::new("/dev/null"));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            drop(decode(&bytes));
        }
    }
}
