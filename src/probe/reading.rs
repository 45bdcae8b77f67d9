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
    /// How many cannot wait for a result that a filter asks for: no thread more can.
    unheld: u64,
}

impl AwaitedStrings {
    /// Takes what a program wrote.
    pub(super) fn take(&mut self, plans: &Arc<[EventPlan]>, bytes: &[u8]) {
        if let Some((thread, time)) = ProbeRecord::refused(bytes) {
            let first = self.by_thread.get(&thread);
            if first.is_some_and(|first| first.timestamp_ns() == time) {
                self.by_thread.remove(&thread);
            }
            return;
        }
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
                self.ready.extend(Some(first).filter(is_reported));
            }
            return;
        }
        if marks & AWAITS == 0 {
            self.unheld += u64::from(record.needs_return());
            self.ready.extend(Some(record).filter(is_reported));
            return;
        }
        // The second record of a call before is lost.
        let before = self.by_thread.insert(thread, record);
        self.ready.extend(before.filter(is_reported));
    }

    /// Returns how many records were dropped because they could not wait for a result.
    pub(super) fn unheld(&self) -> u64 {
        self.unheld
    }

    pub(super) fn next(&mut self) -> Option<ProbeRecord> {
        self.ready.pop_front()
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns those that still wait, oldest first.
    pub(super) fn unfinished(&mut self) -> Vec<ProbeRecord> {
        let all = self.by_thread.drain().map(|(_, record)| record);
        let mut all: Vec<_> = all.filter(is_reported).collect();
        all.sort_by_key(ProbeRecord::timestamp_ns);
        all
    }
}

/// Whether a record is reported: one whose result a filter asks for, only with its result.
fn is_reported(record: &ProbeRecord) -> bool {
    !record.needs_return() || record.returned().is_some()
}
