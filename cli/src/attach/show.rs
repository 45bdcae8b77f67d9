//! Prints the results of what is attached, until the run is over.

use std::io::Write;

use tracepoints::probe::PinnedResults;
use tracepoints::{Kernel, Tracepoint};

use super::Arguments;
use super::lines::Lines;
use super::run::{self, Run};
use super::stack::Stacks;
use super::tally::{Repetition, Tally};
use crate::output::{Failure, JsonRows, plural, say};
use crate::row::LossesRow;

/// How results are printed: the arguments, and the kernel that they are of.
pub(super) struct Shown<'a> {
    pub(super) arguments: &'a Arguments,
    /// The kernel, for records and stacks; and the events that are printed in its words.
    pub(super) kernel: Option<&'a Kernel>,
    pub(super) events: &'a [Tracepoint],
    /// Whether records may be older than what now runs: processes, and modules.
    pub(super) is_pinned: bool,
}

impl Shown<'_> {
    /// Prints records as they come, or counts at intervals and at the end; then what was lost.
    pub(super) fn print(
        &self,
        results: &mut PinnedResults,
        run: &mut Run,
        json: &mut Option<JsonRows>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let stacks = match (&*results, self.kernel) {
            (PinnedResults::Groups(groups), Some(kernel)) if groups.has_stacks() => {
                Some(Stacks::new(kernel, self.is_pinned)?)
            }
            _ => None,
        };
        let tally = Tally::of(results, self.arguments, stacks);
        let (losses, full) = match (tally, self.kernel) {
            (Some(tally), _) => {
                let interval = self.arguments.interval;
                run.until_end(interval, || tally.print(json, Repetition::Next, out))?;
                let last = match interval {
                    Some(_) => Repetition::Last,
                    None => Repetition::Only,
                };
                tally.print(json, last, out)?;
                (tally.losses()?, "groups")
            }
            (None, Some(kernel)) => {
                let PinnedResults::Records(probe) = results else {
                    return Ok(());
                };
                let mut lines = Lines::new(self, probe, kernel, json.as_mut())?;
                let records = lines.print(probe, run, out)?;
                out.flush()?;
                say!("{}", plural(records, "record", "s"));
                (probe.losses()?, "records")
            }
            (None, None) => return Ok(()),
        };
        let losses = run::losses(&losses, full);
        if let Some(json) = json
            && !losses.is_empty()
        {
            let losses = losses.clone();
            json.write(&LossesRow { losses }, out)?;
        }
        run::report(&losses, out)
    }
}
