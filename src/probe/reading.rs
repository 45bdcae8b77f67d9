//! Joins the two records of a system call whose strings are read when it returns.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::plan::EventPlan;
use super::record::ProbeRecord;
use super::strings::{AWAITS, RETURNED};

/// Records that wait for their strings.
#[derive(Debug, Default)]
pub(super) struct AwaitedStrings {
    by_thread: HashMap<u32, ProbeRecord>,
    /// Those that wait no longer, oldest first.
    ready: VecDeque<ProbeRecord>,
}

impl AwaitedStrings {
    /// Takes what a program wrote.
    pub(super) fn take(&mut self, plans: &Arc<[EventPlan]>, bytes: &[u8]) {
        let Some((record, marks)) = ProbeRecord::new(plans, bytes) else {
            return;
        };
        let thread = record.task().tid;
        if marks & RETURNED != 0 {
            let first = self.by_thread.remove(&thread);
            if let Some(mut first) = first {
                // Of another call, if this one's was lost.
                if first.timestamp_ns() == record.timestamp_ns() {
                    first.join(&record, marks);
                }
                self.ready.push_back(first);
            }
            return;
        }
        if marks & AWAITS == 0 {
            self.ready.push_back(record);
            return;
        }
        // The second record of a call before is lost.
        let before = self.by_thread.insert(thread, record);
        self.ready.extend(before);
    }

    pub(super) fn next(&mut self) -> Option<ProbeRecord> {
        self.ready.pop_front()
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns those that still wait, oldest first.
    pub(super) fn unfinished(&mut self) -> Vec<ProbeRecord> {
        let mut all: Vec<_> = self.by_thread.drain().map(|(_, record)| record).collect();
        all.sort_by_key(ProbeRecord::timestamp_ns);
        all
    }
}
