//! The buffers of a recording that is written.

/// What is written of each buffer, by the instance's name: the top buffer's first, whose name
/// is empty, then in the order in which they were named.
#[derive(Clone, Debug)]
pub(super) struct WrittenBuffers<T>(Vec<(String, T)>);

impl<T: Default> Default for WrittenBuffers<T> {
    fn default() -> Self {
        Self(vec![(String::new(), T::default())])
    }
}

impl<T: Default> WrittenBuffers<T> {
    /// Returns the buffer of this name, which is made if it is new.
    pub(super) fn of(&mut self, name: &str) -> &mut T {
        let place = self.0.iter().position(|(known, _)| known == name);
        let place = place.unwrap_or_else(|| {
            self.0.push((name.to_owned(), T::default()));
            self.0.len() - 1
        });
        &mut self.0[place].1
    }

    /// Returns all of them, with their names; the top buffer at least.
    pub(super) fn into_all(self) -> Vec<(String, T)> {
        self.0
    }
}
