//! Mount points.

use std::path::PathBuf;

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount<'a> {
    pub(super) point: PathBuf,
    pub(super) fs_type: &'a str,
}

impl<'a> Mount<'a> {
    pub(super) fn list(mountinfo: &'a str) -> Vec<Self> {
        mountinfo.lines().filter_map(Self::parse).collect()
    }

    /// Parses a line, such as
    /// `22 20 0:7 / /sys/kernel/tracing rw,nosuid shared:4 - tracefs tracefs rw`.
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        Some(Self {
            point: unescape(mount.split(' ').nth(4)?).into(),
            fs_type: file_system.split(' ').next()?,
        })
    }
}

/// Decodes `\040` and the like, which stand for space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let escaped = after
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        rest = match escaped {
            Some(byte) if byte.is_ascii() => {
                plain.push(char::from(byte));
                &after[3..]
            }
            _ => {
                plain.push('\\');
                after
            }
        };
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn mountinfo_lines() {
        let text = "\
            22 20 0:7 / /sys/kernel/tracing rw,nosuid shared:4 - tracefs tracefs rw\n\
            23 20 0:8 / /mnt/a\\040b\\134c rw - debugfs debugfs rw\n\
            nonsense\n";
        let mounts = Mount::list(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point, Path::new("/sys/kernel/tracing"));
        assert_eq!(
            (mounts[1].point.to_str(), mounts[1].fs_type),
            (Some("/mnt/a b\\c"), "debugfs")
        );
    }
}
