//! Versions of Linux.

use std::fmt;
use std::str::FromStr;

/// A version of Linux, without distributions' suffixes: `6.17.13`.
///
/// It is parsed from a release (`uname -r`) or from the text of `/proc/version`.
///
/// ```
/// use tracepoints::text::{KernelVersion, KernelVersionError};
///
/// let version: KernelVersion = "Linux version 6.17.13+deb13-amd64 (…)".parse()?;
/// assert_eq!(version, KernelVersion::new(6, 17, 13));
/// assert!("6.18-rc1".parse::<KernelVersion>()? > version);
/// # Ok::<(), KernelVersionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

/// An error for a text that does not begin with a version of Linux.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} does not begin with a version of Linux, such as 6.17.13")]
pub struct KernelVersionError {
    text: String,
}

impl KernelVersion {
    /// Creates the version `major.minor.patch`.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// Returns the number that C's `KERNEL_VERSION(major, minor, patch)` gives.
    #[cfg(feature = "audit")]
    pub(crate) fn code(self) -> u32 {
        (self.major.min(255) << 16) + (self.minor.min(255) << 8) + self.patch.min(255)
    }
}

impl FromStr for KernelVersion {
    type Err = KernelVersionError;

    fn from_str(text: &str) -> Result<Self, KernelVersionError> {
        let release = text.strip_prefix("Linux version ").unwrap_or(text);
        let end = release.find(|c: char| !c.is_ascii_digit() && c != '.');
        let release = &release[..end.unwrap_or(release.len())];
        let mut numbers = release.split('.').map(|number| number.parse().ok());
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Some(major)), Some(Some(minor)), patch) => {
                Ok(Self::new(major, minor, patch.flatten().unwrap_or(0)))
            }
            _ => Err(KernelVersionError {
                text: text.chars().take(80).collect(),
            }),
        }
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_releases() {
        for (text, expected) in [
            ("6.18.15", Some((6, 18, 15))),
            (
                "Linux version 7.2.13+deb14-s390x (debian)",
                Some((7, 2, 13)),
            ),
            ("5.10-rt\n", Some((5, 10, 0))),
            ("3.10.40-g1234.5", Some((3, 10, 40))),
            ("6", None),
            ("", None),
            ("Linux version x", None),
            ("99999999999.1", None),
        ] {
            let version = text.parse::<KernelVersion>().ok();
            let expected = expected.map(|(a, b, c)| KernelVersion::new(a, b, c));
            assert_eq!(version, expected, "{text:?}");
        }
    }
}
