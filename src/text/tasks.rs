//! Names and thread groups of processes, which are not in records.

use std::borrow::Cow;
use std::collections::HashMap;

/// The names (`saved_cmdlines`) and thread groups (`saved_tgids`) that a kernel saved
/// by pid. A record has only a pid.
///
/// A name is any bytes, at most 15, that a process gave itself.
#[derive(Clone, Debug, Default)]
pub struct TaskNames {
    by_pid: HashMap<i32, Vec<u8>>,
    /// `None` if they are not shown.
    groups: Option<HashMap<i32, i32>>,
}

impl TaskNames {
    /// Parses `saved_cmdlines`: a pid and a name on each line. Lines that do not begin
    /// with a pid are skipped, since a name may contain newlines.
    pub fn parse(saved_cmdlines: impl AsRef<[u8]>) -> Self {
        Self {
            by_pid: pairs(saved_cmdlines.as_ref()).collect(),
            groups: None,
        }
    }

    /// Adds the thread groups of `saved_tgids`: a pid and the pid of its thread group
    /// on each line. Lines of `trace` then have the column TGID, as with the kernel's
    /// option `record-tgid`.
    #[must_use]
    pub fn with_groups(mut self, saved_tgids: impl AsRef<[u8]>) -> Self {
        let groups = pairs(saved_tgids.as_ref()).filter_map(|(pid, group)| {
            let group = str::from_utf8(&group).ok()?.trim().parse().ok()?;
            Some((pid, group))
        });
        self.groups = Some(groups.collect());
        self
    }

    /// Sets the name of a process, in place of the one it had.
    pub fn set(&mut self, pid: i32, name: impl Into<Vec<u8>>) {
        self.by_pid.insert(pid, name.into());
    }

    /// Whether the name of a process is known.
    pub fn has(&self, pid: i32) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// Returns the name of a process; as in the kernel, `<idle>` for 0, `<XXX>` for a
    /// negative pid and `<...>` for one that was not saved. Bytes that are not UTF-8
    /// are replaced: [`bytes_of`](Self::bytes_of) keeps them.
    pub fn of(&self, pid: i32) -> Cow<'_, str> {
        String::from_utf8_lossy(self.bytes_of(pid))
    }

    /// Returns the name of a process like [`of`](Self::of), as bytes.
    pub fn bytes_of(&self, pid: i32) -> &[u8] {
        match pid {
            0 => b"<idle>",
            ..0 => b"<XXX>",
            _ => self.by_pid.get(&pid).map_or(b"<...>", Vec::as_slice),
        }
    }

    /// Returns the names as the text of `saved_cmdlines`, sorted by pid, without those that
    /// have a newline in them.
    pub fn to_saved_cmdlines(&self) -> Vec<u8> {
        let mut names: Vec<(&i32, &Vec<u8>)> = self.by_pid.iter().collect();
        names.sort_by_key(|(pid, _)| **pid);
        names.retain(|(_, name)| !name.contains(&b'\n'));
        let lines = names.iter();
        lines
            .flat_map(|(pid, name)| [format!("{pid} ").as_bytes(), name, b"\n"].concat())
            .collect()
    }

    /// Returns the thread group of a process: `None` if groups are not shown at all, 0
    /// if this one is unknown.
    pub fn group_of(&self, pid: i32) -> Option<i32> {
        let groups = self.groups.as_ref()?;
        Some(groups.get(&pid).copied().unwrap_or(0))
    }
}

fn pairs(text: &[u8]) -> impl Iterator<Item = (i32, Vec<u8>)> + '_ {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let space = line.iter().position(|byte| *byte == b' ')?;
        let pid = str::from_utf8(&line[..space]).ok()?.parse().ok()?;
        Some((pid, line[space + 1..].to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_groups() {
        let names = TaskNames::parse(b"7 a b]\n8 \nnonsense\n-9 x\n10 \xff\xfe[1m\n");
        for (pid, name) in [
            (7, &b"a b]"[..]),
            (8, b""),
            (9, b"<...>"),
            (0, b"<idle>"),
            (-9, b"<XXX>"),
            (10, b"\xff\xfe[1m"),
        ] {
            assert_eq!(names.bytes_of(pid), name);
        }
        assert_eq!(names.of(10), "\u{fffd}\u{fffd}[1m");
        assert_eq!(names.group_of(7), None);
        let saved = b"-9 x\n7 a b]\n8 \n10 \xff\xfe[1m\n";
        assert_eq!(names.to_saved_cmdlines(), saved);
        let mut names = names;
        names.set(7, "c");
        names.set(11, "d");
        assert_eq!([7, 11].map(|pid| names.bytes_of(pid)), [b"c", b"d"]);
        let names = names.with_groups("7 6\n8 x\n");
        assert_eq!(
            [7, 8, 9].map(|pid| names.group_of(pid)),
            [Some(6), Some(0), Some(0)]
        );
    }
}
