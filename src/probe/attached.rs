//! Programs that are attached, and what is lost.

use std::fmt;
use std::os::fd::BorrowedFd;

use aya::maps::{MapData, PerCpuArray};

use super::attach::Attachments;
use super::error::ProbeError;
use super::map_error;
use super::service::PlannedProgram;
use super::summary::total;
use super::tasks::Followed;

/// Programs that are attached, and what they count.
pub(crate) struct Attached {
    // Dropped first: the programs are detached before their maps go.
    pub(super) programs: Attachments,
    pub(super) followed: Option<Followed>,
    pub(super) counts: PerCpuArray<MapData, u64>,
    /// Where tasks are counted that could not be followed; behind it, values that could not
    /// be read.
    pub(super) untracked: u32,
    /// The number of those counts, behind which are the system calls'.
    pub(super) end: u32,
    pub(super) plan: Vec<PlannedProgram>,
}

impl fmt::Debug for Attached {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.programs.fmt(out)
    }
}

impl Attached {
    /// A count, of all CPUs together.
    pub(super) fn count(&self, index: u32) -> Result<u64, ProbeError> {
        let counts = self
            .counts
            .get(&index, 0)
            .map_err(|error| map_error("reading counts", error))?;
        Ok(total(counts.iter().copied()))
    }

    /// Returns what keeps each program attached, those that follow tasks included.
    pub(super) fn links(&self) -> impl Iterator<Item = Option<BorrowedFd<'_>>> {
        let followed = self.followed.iter();
        let following = followed.flat_map(|followed| followed.programs.links());
        self.programs.links().chain(following)
    }

    /// Leaves the links to whatever else holds them.
    pub(super) fn let_go(&mut self) {
        self.programs.let_go();
        if let Some(followed) = &mut self.followed {
            followed.programs.let_go();
        }
    }

    /// Returns the counts with the keys from 0 on, one for each event, together.
    pub(super) fn count_of_events(&self, events: usize) -> Result<u64, ProbeError> {
        let mut all = 0;
        for index in 0..events {
            all = total([all, self.count(index as u32)?]);
        }
        Ok(all)
    }

    pub(super) fn losses(&self, full: u64) -> Result<Losses, ProbeError> {
        Ok(Losses {
            full,
            skipped: self.programs.skipped()?,
            untracked_tasks: self.count(self.untracked)?,
            unreadable: self.count(self.untracked + 1)?,
        })
    }

    pub(super) fn is_any_task_left(&self) -> Result<bool, ProbeError> {
        match &self.followed {
            Some(followed) => followed.is_any_left(),
            None => Ok(true),
        }
    }
}

/// Exact counts of what a probe did not report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Losses {
    /// Records there was no space for in the ring buffer, and returns of system calls whose
    /// records are there without ([`ProbeBuilder::returns_of`](super::ProbeBuilder::returns_of)).
    pub full: u64,
    /// Times the kernel did not run a program, because another tracing program ran
    /// on that CPU (Linux 5.12 and later count them).
    pub skipped: u64,
    /// Children of the processes followed that there was no space to follow.
    pub untracked_tasks: u64,
    /// Hits of raw tracepoints in no group and no bucket, because the value behind a pointer
    /// could not be read.
    #[serde(default)]
    pub unreadable: u64,
}

impl Losses {
    /// Whether nothing was lost.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
