//! A build's progress as plain lines, in Docker's form: `#3 [2/4] RUN make`, `#3 0.412 cc -c main.c`, `#3 DONE 1.2s`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use proto::engine::v1::build_output::Step;
use proto::engine::v1::build_output::step::What;

use super::clean::clean;

/// The longest line that is held until its end comes.
const LONGEST: usize = 64 << 10;

/// What is known of the steps.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    steps: BTreeMap<u32, Known>,
}

#[derive(Debug)]
struct Known {
    began: Instant,
    /// Bytes of a line that has not ended, of stdout and stderr.
    open: [Vec<u8>; 2],
}

impl Default for Known {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            open: [Vec::new(), Vec::new()],
        }
    }
}

impl Progress {
    /// The lines for one message.
    pub(crate) fn step(&mut self, step: &Step) -> String {
        let number = step.number;
        let known = self.steps.entry(number).or_default();
        let mut text = String::new();
        match &step.what {
            Some(What::Begun(name)) => {
                known.began = Instant::now();
                let _ = writeln!(text, "#{number} {}", clean(name));
            }
            Some(What::Cached(())) => {
                let _ = writeln!(text, "#{number} CACHED\n");
            }
            Some(What::Stdout(bytes)) => known.output(number, 0, bytes, &mut text),
            Some(What::Stderr(bytes)) => known.output(number, 1, bytes, &mut text),
            Some(What::DoneMs(ms)) => {
                known.flush(number, &mut text);
                let _ = writeln!(text, "#{number} DONE {}.{}s\n", ms / 1000, ms % 1000 / 100);
            }
            Some(What::Failed(())) => {
                known.flush(number, &mut text);
                let _ = writeln!(text, "#{number} ERROR\n");
            }
            None => {}
        }
        text
    }

    /// The lines of a warning.
    pub(crate) fn warning(&self, text: &str) -> String {
        let lines = text
            .lines()
            .map(|line| format!("WARNING: {}\n", clean(line)));
        lines.collect()
    }

    /// The last lines.
    pub(crate) fn done(&self, id: &str, names: &[&str]) -> String {
        let number = self.steps.keys().last().copied().unwrap_or_default() + 1;
        let mut text = format!("#{number} exporting to image\n#{number} writing image {id} done\n");
        for name in names {
            let _ = writeln!(text, "#{number} naming to {} done", clean(name));
        }
        let _ = writeln!(text, "#{number} DONE");
        text
    }
}

impl Known {
    fn output(&mut self, number: u32, stream: usize, bytes: &[u8], text: &mut String) {
        let seconds = self.began.elapsed().as_secs_f64();
        let open = &mut self.open[stream];
        for byte in bytes {
            match byte {
                b'\n' => {
                    write_line(number, seconds, open, text);
                    open.clear();
                }
                _ => open.push(*byte),
            }
            if open.len() >= LONGEST {
                write_line(number, seconds, open, text);
                open.clear();
            }
        }
    }

    fn flush(&mut self, number: u32, text: &mut String) {
        let seconds = self.began.elapsed().as_secs_f64();
        for open in &mut self.open {
            if !open.is_empty() {
                write_line(number, seconds, open, text);
                open.clear();
            }
        }
    }
}

fn write_line(number: u32, seconds: f64, bytes: &[u8], text: &mut String) {
    let line = String::from_utf8_lossy(bytes);
    // What a progress bar overwrote is not shown.
    let line = line
        .trim_end_matches('\r')
        .rsplit('\r')
        .next()
        .unwrap_or_default();
    let _ = writeln!(text, "#{number} {seconds:.3} {}", clean(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: u32, what: What) -> Step {
        Step {
            number,
            what: Some(what),
        }
    }

    #[test]
    fn lines_are_whole_and_carry_their_step() {
        let mut progress = Progress::default();
        assert_eq!(
            progress.step(&step(1, What::Begun("[1/2] FROM a".to_owned()))),
            "#1 [1/2] FROM a\n"
        );
        assert_eq!(
            progress.step(&step(1, What::Stdout(b"half"[..].into()))),
            ""
        );
        let line = progress.step(&step(1, What::Stdout(b" and half\nnext"[..].into())));
        assert!(
            line.starts_with("#1 0.") && line.ends_with(" half and half\n"),
            "{line}"
        );
        let end = progress.step(&step(1, What::DoneMs(1234)));
        assert!(
            end.contains(" next\n") && end.contains("#1 DONE 1.2s"),
            "{end}"
        );
        assert_eq!(progress.step(&step(2, What::Cached(()))), "#2 CACHED\n\n");
    }

    #[test]
    fn output_cannot_upset_a_terminal() {
        let mut progress = Progress::default();
        let line = progress.step(&step(1, What::Stderr(b"10%\r20%\r\x1b[2Jx\n"[..].into())));
        assert!(!line.contains('\x1b') && !line.contains("10%"), "{line}");
    }

    #[test]
    fn the_end_names_the_image() {
        let text = Progress::default().done("sha256:1", &["app:latest"]);
        assert!(text.contains("writing image sha256:1") && text.contains("naming to app:latest"));
    }
}
