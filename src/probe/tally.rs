//! Counting in the kernel, for events too hot to hand out one by one.

use std::ops::RangeInclusive;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::attached::{Attached, Losses};
use super::error::ProbeError;
use super::pin::{self, PinnedProbe, PinnedResults};
use super::program::BUCKETS;
use super::service::PlannedProgram;
use crate::name::EventName;

/// Programs that count how often their events happen: see
/// [`ProbeBuilder::count`](super::ProbeBuilder::count).
#[derive(Debug)]
pub struct Counter {
    /// Each with the key of its count.
    pub(super) events: Vec<(EventName, u32)>,
    pub(super) attached: Attached,
}

impl Counter {
    pub(crate) fn new(events: Vec<(EventName, u32)>, attached: Attached) -> Self {
        Self { events, attached }
    }

    /// The programs that count, and which events each serves.
    pub fn plan(&self) -> &[PlannedProgram] {
        &self.attached.plan
    }

    /// How often each event has happened so far, in the order of the events.
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn counts(&self) -> Result<Vec<(&EventName, u64)>, ProbeError> {
        let events = self.events.iter();
        events
            .map(|(event, key)| Ok((event, self.attached.count(*key)?)))
            .collect()
    }

    /// Returns the numbers of events that were not counted.
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn losses(&self) -> Result<Losses, ProbeError> {
        self.attached.losses(0)
    }

    /// As [`Probe::is_any_task_left`](super::Probe::is_any_task_left).
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn is_any_task_left(&self) -> Result<bool, ProbeError> {
        self.attached.is_any_task_left()
    }

    /// Pins it to a new directory of a BPF file system, where it goes on without this process:
    /// see [`PinnedProbe`].
    ///
    /// # Errors
    ///
    /// [`ProbeError::Pin`]. It is detached then.
    pub fn pin(self, directory: impl AsRef<Path>) -> Result<PinnedProbe, ProbeError> {
        pin::pin(PinnedResults::Counts(self), directory.as_ref())
    }
}

/// Programs that count the values of a field by powers of two: see
/// [`ProbeBuilder::histogram`](super::ProbeBuilder::histogram).
#[derive(Debug)]
pub struct Histogram {
    pub(super) events: Vec<EventName>,
    pub(super) field: String,
    pub(super) attached: Attached,
}

/// The values between two powers of two, and how often they were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bucket {
    /// The smallest value in it; `None` in the bucket of all negative ones.
    pub from: Option<u64>,
    /// How many there were.
    pub count: u64,
}

impl Bucket {
    /// The values in it; `None` of the bucket of all negative ones.
    pub fn values(&self) -> Option<RangeInclusive<u64>> {
        let from = self.from?;
        Some(match from {
            0 => 0..=0,
            from => from..=from + (from - 1),
        })
    }
}

impl Histogram {
    pub(crate) fn new(events: Vec<EventName>, field: String, attached: Attached) -> Self {
        Self {
            events,
            field,
            attached,
        }
    }

    /// The field whose values are counted.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The programs that count, and which events each serves.
    pub fn plan(&self) -> &[PlannedProgram] {
        &self.attached.plan
    }

    /// The buckets of each event from the lowest seen to the highest, empty ones
    /// between them included.
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn buckets(&self) -> Result<Vec<(&EventName, Vec<Bucket>)>, ProbeError> {
        let events = self.events.iter().zip(0..);
        events
            .map(|(event, index)| Ok((event, self.of_event(index)?)))
            .collect()
    }

    fn of_event(&self, index: u32) -> Result<Vec<Bucket>, ProbeError> {
        let mut buckets = Vec::new();
        for bucket in 0..BUCKETS {
            let count = self.attached.count(index * BUCKETS + bucket)?;
            let from = match bucket {
                0 => None,
                1 => Some(0),
                power => Some(1 << (power - 2)),
            };
            if count > 0 || !buckets.is_empty() {
                buckets.push(Bucket { from, count });
            }
        }
        while buckets.pop_if(|bucket| bucket.count == 0).is_some() {}
        Ok(buckets)
    }

    /// Returns the numbers of events that were not counted.
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn losses(&self) -> Result<Losses, ProbeError> {
        self.attached.losses(0)
    }

    /// As [`Probe::is_any_task_left`](super::Probe::is_any_task_left).
    ///
    /// # Errors
    ///
    /// [`ProbeError::System`].
    pub fn is_any_task_left(&self) -> Result<bool, ProbeError> {
        self.attached.is_any_task_left()
    }

    /// Pins it to a new directory of a BPF file system, where it goes on without this process:
    /// see [`PinnedProbe`].
    ///
    /// # Errors
    ///
    /// [`ProbeError::Pin`]. It is detached then.
    pub fn pin(self, directory: impl AsRef<Path>) -> Result<PinnedProbe, ProbeError> {
        pin::pin(PinnedResults::Histogram(self), directory.as_ref())
    }
}
