//! Messages for a syslog daemon: RFC 3164 and 5424, and what programs of the
//! same machine write to `/dev/log`.

use std::io::Write;
use std::time::SystemTime;

use nix::sys::utsname::uname;
use prost_types::Timestamp;

use super::lines::Output;
use super::uri::{SyslogFormat, SyslogUri};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Syslog's numbers for information and for an error.
fn severity(output: Output) -> u8 {
    match output {
        Output::Stdout => 6,
        Output::Stderr => 3,
    }
}

/// One message for a line of `output`, without a newline at its end.
pub(super) fn message(uri: &SyslogUri, output: Output, line: &[u8], at: SystemTime) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let host = uname()
        .ok()
        .and_then(|names| names.nodename().to_str().map(str::to_owned))
        .unwrap_or_default();
    let mut message = header(uri, output, &host, std::process::id(), &Time::of(at)).into_bytes();
    message.extend_from_slice(line);
    message
}

fn header(uri: &SyslogUri, output: Output, host: &str, pid: u32, time: &Time) -> String {
    let priority = uri.facility * 8 + severity(output);
    let tag = &uri.tag;
    match uri.format {
        SyslogFormat::Local => format!("<{priority}>{} {tag}[{pid}]: ", time.short()),
        SyslogFormat::Rfc3164 => format!("<{priority}>{} {host} {tag}[{pid}]: ", time.short()),
        SyslogFormat::Rfc5424 { micro } => {
            let stamp = if micro { time.micro() } else { time.seconds() };
            format!("<{priority}>1 {stamp} {host} {tag} {pid} {tag} - ")
        }
    }
}

/// A message as a stream carries it: by its length in the newer format, by
/// lines in the older ones.
pub(super) fn framed(uri: &SyslogUri, message: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(message.len() + 8);
    match uri.format {
        SyslogFormat::Rfc5424 { .. } => {
            // Writing to a vector cannot fail.
            let _ = write!(framed, "{} ", message.len());
            framed.extend_from_slice(message);
        }
        SyslogFormat::Local | SyslogFormat::Rfc3164 => {
            framed.extend_from_slice(message);
            framed.push(b'\n');
        }
    }
    framed
}

/// A time in UTC, by its parts: `2026-11-27T23:34:22.123456789Z`.
struct Time {
    /// The date and time, to the second.
    text: String,
    micros: u32,
}

impl Time {
    fn of(at: SystemTime) -> Self {
        let mut stamp = Timestamp::from(at);
        let micros = u32::try_from(stamp.nanos / 1000).unwrap_or(0);
        stamp.nanos = 0;
        let mut text = stamp.to_string();
        text.truncate("2026-11-27T23:34:22".len());
        Self { text, micros }
    }

    fn seconds(&self) -> String {
        format!("{}Z", self.text)
    }

    fn micro(&self) -> String {
        format!("{}.{:06}Z", self.text, self.micros)
    }

    /// `Nov  7 23:34:22`; a day of one digit has a blank before it.
    fn short(&self) -> String {
        let part = |range| self.text.get(range).unwrap_or_default();
        let month = part(5..7)
            .parse::<usize>()
            .ok()
            .and_then(|month| MONTHS.get(month.wrapping_sub(1)))
            .unwrap_or(&MONTHS[0]);
        let day = part(8..10).trim_start_matches('0');
        format!("{month} {day:>2} {}", part(11..19))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdio::uri::SyslogAddress;
    use std::time::Duration;

    fn uri(format: SyslogFormat) -> SyslogUri {
        SyslogUri {
            address: SyslogAddress::Unix("/dev/log".into()),
            tag: "web".into(),
            facility: 3,
            format,
        }
    }

    fn begins(format: SyslogFormat, output: Output) -> String {
        let at = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000 - 7 * 86400, 123_456_789);
        header(&uri(format), output, "host", 42, &Time::of(at))
    }

    #[test]
    fn each_format_begins_as_its_document_says() {
        assert_eq!(
            begins(SyslogFormat::Local, Output::Stdout),
            "<30>Nov  7 22:13:20 web[42]: "
        );
        assert_eq!(
            begins(SyslogFormat::Rfc3164, Output::Stderr),
            "<27>Nov  7 22:13:20 host web[42]: "
        );
        assert_eq!(
            begins(SyslogFormat::Rfc5424 { micro: false }, Output::Stdout),
            "<30>1 2023-11-07T22:13:20Z host web 42 web - "
        );
        assert_eq!(
            begins(SyslogFormat::Rfc5424 { micro: true }, Output::Stdout),
            "<30>1 2023-11-07T22:13:20.123456Z host web 42 web - "
        );
    }

    #[test]
    fn a_stream_tells_messages_apart() {
        assert_eq!(framed(&uri(SyslogFormat::Rfc3164), b"m"), b"m\n");
        let newer = SyslogFormat::Rfc5424 { micro: false };
        assert_eq!(framed(&uri(newer), b"a\nb"), b"3 a\nb");
    }
}
