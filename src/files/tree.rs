//! A root in memory: the files of a captured kernel, read from an archive or made from the
//! kernel's image.

use std::collections::BTreeMap;

/// Files by their paths below the root, with `/` between the parts.
#[derive(Debug, Default)]
pub(crate) struct FileTree {
    files: BTreeMap<String, Vec<u8>>,
}

impl FileTree {
    /// Adds a file. If the path already has one, keeps that and returns `false`.
    #[cfg(any(test, feature = "image", feature = "recording"))]
    pub(crate) fn add(&mut self, path: String, bytes: Vec<u8>) -> bool {
        match self.files.entry(path) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(bytes);
                true
            }
            std::collections::btree_map::Entry::Occupied(_) => false,
        }
    }

    /// Adds a file, replacing one at the same path.
    pub(crate) fn replace(&mut self, path: String, bytes: Vec<u8>) {
        self.files.insert(path, bytes);
    }

    pub(crate) fn file(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// Iterates over the files below a directory, with their paths below it, sorted.
    pub(crate) fn below<'a>(
        &'a self,
        directory: &str,
    ) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let start = match directory {
            "" => String::new(),
            directory => format!("{directory}/"),
        };
        let from = self.files.range(start.clone()..);
        from.map_while(move |(path, bytes)| Some((path.strip_prefix(&*start)?, bytes.as_slice())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_below_a_directory() {
        let mut tree = FileTree::default();
        for path in ["b/x", "a/y/z", "a/x", "ab/c"] {
            assert!(tree.add(path.to_owned(), path.into()));
        }
        assert!(!tree.add("a/x".to_owned(), Vec::new()));
        let below = |directory| {
            tree.below(directory)
                .map(|(path, _)| path)
                .collect::<Vec<_>>()
        };
        assert_eq!(below("a"), ["x", "y/z"]);
        assert_eq!(below("a/y"), ["z"]);
        assert_eq!(below(""), ["a/x", "a/y/z", "ab/c", "b/x"]);
        assert_eq!(tree.file("a/x"), Some(&b"a/x"[..]));
    }
}
