//! Finds the events and raw tracepoints that the targets of `attach` mean.

use tracepoints::probe::RawProgram;
use tracepoints::{EventName, EventPattern, Kernel, Tracepoint};

use super::target::Target;
use crate::output::Failure;
use crate::select::select;

/// The events and raw tracepoints to attach to.
pub(super) struct Chosen {
    pub(super) events: Vec<Tracepoint>,
    pub(super) raw: Vec<RawChoice>,
}

/// A raw tracepoint, and the target that chose it.
pub(super) struct RawChoice {
    pub(super) name: String,
    pub(super) program: RawProgram,
    pub(super) target: usize,
}

impl RawChoice {
    /// Returns the event name of its records.
    pub(super) fn event(&self) -> Option<EventName> {
        let category = match self.program {
            RawProgram::TpBtf => "tp_btf",
            _ => "raw_tp",
        };
        format!("{category}:{}", self.name).parse().ok()
    }
}

impl Chosen {
    pub(super) fn new(kernel: &Kernel, targets: &[Target]) -> Result<Self, Failure> {
        let mut patterns = Vec::new();
        let mut raw: Vec<RawChoice> = Vec::new();
        // Read only if a target needs them.
        let mut names = None;
        for (target, of) in targets.iter().zip(0..) {
            let program = match target.raw {
                Some(program) => program,
                None if has_event(kernel, &target.pattern)? => {
                    patterns.push(target.pattern.clone());
                    continue;
                }
                None => RawProgram::Cheapest,
            };
            if names.is_none() {
                // Without BTF there are no raw tracepoints, and choosing events gives the
                // better error.
                names = match kernel.raw_tracepoint_names() {
                    Err(_) if target.raw.is_none() => Some(Vec::new()),
                    names => Some(names?),
                };
            }
            let mut names = names.iter().flatten();
            let chosen: Vec<&String> = names
                .by_ref()
                .filter(|name| target.pattern.matches_bare(name))
                .collect();
            if chosen.is_empty() && target.raw.is_none() {
                patterns.push(target.pattern.clone());
                continue;
            }
            if chosen.is_empty() {
                return Err(Failure::Other(format!(
                    "{}: no BTF object of this kernel defines such a tracepoint; \
                     list --raw shows those without events",
                    target.pattern
                )));
            }
            for name in chosen {
                if raw
                    .iter()
                    .all(|known| (&known.name, known.program) != (name, program))
                {
                    raw.push(RawChoice {
                        name: name.clone(),
                        program,
                        target: of,
                    });
                }
            }
        }
        let events = match patterns.is_empty() {
            true => Vec::new(),
            false => {
                let selected = select(kernel, &patterns)?;
                let found = selected.names().iter().map(|name| kernel.tracepoint(name));
                found.collect::<Result<_, _>>()?
            }
        };
        Ok(Self { events, raw })
    }

    pub(super) fn len(&self) -> usize {
        self.events.len() + self.raw.len()
    }
}

/// Whether a pattern is of events: it has a category, or an event of this name exists.
fn has_event(kernel: &Kernel, pattern: &EventPattern) -> Result<bool, Failure> {
    let text = pattern.to_string();
    if text.contains([':', '/']) {
        return Ok(true);
    }
    let events = kernel.events()?;
    let mut names = events.names().iter();
    Ok(names.any(|name| pattern.matches(name) || name.category() == text))
}
