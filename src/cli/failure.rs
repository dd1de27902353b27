//! The failures that end a command, and their exit statuses.

use std::io::{ErrorKind, Write as _};

use wgpu_optim::Error;

/// The exit status for a usage error or bad input.
const BAD_INPUT: u8 = 2;
const NO_ADAPTER: u8 = 3;
const DEVICE_LOST: u8 = 4;

pub(super) enum Failure {
    Optim(Error),
    /// Standard output cannot be written.
    Output(std::io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Optim(error)
    }
}

impl Failure {
    /// Prints one line on standard error and returns the exit status. It is not a failure if a reader closes the pipe, as `head` does.
    pub(super) fn report(&self) -> u8 {
        match self {
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => super::PASSED,
            Self::Output(error) => {
                line(format_args!("error: standard output: {error}"));
                BAD_INPUT
            }
            Self::Optim(error) => {
                line(format_args!("error: {error}"));
                self.status()
            }
        }
    }

    fn status(&self) -> u8 {
        match self {
            Self::Optim(Error::NoAdapter(_)) => NO_ADAPTER,
            Self::Optim(Error::DeviceLost(_)) => DEVICE_LOST,
            Self::Optim(_) | Self::Output(_) => BAD_INPUT,
        }
    }

    /// Whether the rest of the command would fail too.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Output(_)) || self.status() != BAD_INPUT
    }
}

/// Prints clap's message: help and version in full, an error in one line.
pub(super) fn usage(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        // If a reader closed standard output, nobody reads the help.
        let _ = error.print();
        return super::PASSED;
    }
    let text = error.render().to_string();
    let lines =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    line(format_args!("{} (see --help)", lines.join(" ")));
    BAD_INPUT
}

/// Prints a line on standard error. A closed standard error is not a failure.
pub(super) fn line(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{}", printable(&text.to_string()));
}

/// The text, with an escape for every character that a terminal would obey or not show. Texts come from files too.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_status() {
        let status = |error: Error| Failure::from(error).status();
        assert_eq!(status(Error::NoAdapter(String::new())), 3);
        assert_eq!(status(Error::DeviceLost("unplugged".to_owned())), 4);
        assert_eq!(status(Error::Usage("such as this".to_owned())), 2);
        assert!(Failure::from(Error::DeviceLost(String::new())).is_final());
        assert!(!Failure::from(Error::Usage(String::new())).is_final());
        assert!(Failure::Output(ErrorKind::BrokenPipe.into()).is_final());
    }
}
