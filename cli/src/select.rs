//! Selects events by patterns.

use tracepoints::kernel::Events;
use tracepoints::{Error, EventName, EventPattern, Kernel};

use crate::output::{Failure, say, with_causes};

/// Whether an event is among those that `--only` names: all if it names none.
pub(crate) fn is_among(only: &[EventPattern], event: &EventName) -> bool {
    only.is_empty() || only.iter().any(|pattern| pattern.matches(event))
}

/// Returns the events that match the patterns; all without a pattern. A category alone,
/// `sched`, means all its events unless an event has that name.
pub(crate) fn select(kernel: &Kernel, patterns: &[EventPattern]) -> Result<Events, Failure> {
    match kernel.select(patterns) {
        Err(Error::NoMatch { .. } | Error::NoSuchEvent { .. }) => {}
        selected => return Ok(selected?),
    }
    let listed = kernel.events()?;
    let mut meant = Vec::with_capacity(patterns.len());
    for pattern in patterns {
        let text = pattern.to_string();
        let mut names = listed.names().iter();
        let is_category = names.clone().any(|name| name.category() == text);
        meant.push(
            match is_category && !names.any(|name| pattern.matches(name)) {
                true => {
                    say!("{text} is a category: matching {text}:*");
                    format!("{text}:*").parse().map_err(Error::Name)?
                }
                false => pattern.clone(),
            },
        );
    }
    kernel.select(&meant).map_err(|error| {
        let has = |category: &str| {
            let mut names = listed.names().iter();
            names.any(|name| name.category() == category)
        };
        let wants_syscalls = patterns
            .iter()
            .any(|pattern| pattern.to_string().starts_with("syscalls:"));
        if wants_syscalls && !has("syscalls") && has("raw_syscalls") {
            return Failure::Other(format!(
                "{}: this kernel was built without CONFIG_FTRACE_SYSCALLS; \
                 raw_syscalls:sys_enter and raw_syscalls:sys_exit see every system call, by number",
                with_causes(&error)
            ));
        }
        error.into()
    })
}
