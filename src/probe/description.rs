//! The description of a pinned probe: the ids of its objects, and what the bytes in its maps
//! mean.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::PinError;
use super::group::GroupPlan;
use super::plan::EventPlan;
use super::service::PlannedProgram;
use crate::name::EventName;

/// What is pinned in a directory, and how it is read.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PinDescription {
    /// Of this crate.
    pub(super) version: String,
    /// The ids of the objects, by the names of their files.
    pub(super) links: Vec<u32>,
    pub(super) programs: Vec<u32>,
    pub(super) maps: BTreeMap<String, u32>,
    pub(super) untracked: u32,
    pub(super) end: u32,
    pub(super) plan: Vec<PlannedProgram>,
    pub(super) results: DescribedResults,
}

/// What the maps have.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum DescribedResults {
    Records {
        plans: Arc<[EventPlan]>,
        /// Of the events, those of raw tracepoints apart.
        ids: Vec<Option<u32>>,
    },
    Counts {
        events: Vec<(EventName, u32)>,
    },
    Histogram {
        events: Vec<EventName>,
        field: String,
    },
    Groups {
        by: Vec<String>,
        measured: Option<String>,
        plans: Vec<GroupPlan>,
    },
}

/// The version, which tells whether the rest can be read.
#[derive(Deserialize)]
struct DescribedVersion {
    version: String,
}

impl PinDescription {
    /// Reads a description, which may be anyone's.
    pub(super) fn parse(text: &[u8]) -> Result<Self, PinError> {
        let version: DescribedVersion =
            serde_json::from_slice(text).map_err(PinError::Description)?;
        if version.version != env!("CARGO_PKG_VERSION") {
            return Err(PinError::Version {
                version: version.version,
            });
        }
        let description: Self = serde_json::from_slice(text).map_err(PinError::Description)?;
        match description.is_sound() {
            true => Ok(description),
            false => Err(PinError::Layout),
        }
    }

    /// Whether all places are where the maps have bytes.
    fn is_sound(&self) -> bool {
        match &self.results {
            DescribedResults::Records { plans, .. } => plans.iter().all(EventPlan::is_sound),
            DescribedResults::Groups { plans, .. } => plans.iter().all(GroupPlan::is_sound),
            DescribedResults::Counts { .. } | DescribedResults::Histogram { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kernel::Kernel;
    use crate::probe::plan::header;
    use crate::probe::probed::{Hook, Probed};
    use crate::probe::record::ProbeRecord;

    /// As `pin` names it.
    const COUNTS: &str = "counts";
    const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/6.18.15-x86_64");

    fn description(results: DescribedResults) -> PinDescription {
        PinDescription {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            links: vec![7],
            programs: vec![9],
            maps: BTreeMap::from([(COUNTS.to_owned(), 11)]),
            untracked: 1,
            end: 3,
            plan: Vec::new(),
            results,
        }
    }

    fn of_records(events: &[&str]) -> PinDescription {
        let kernel = Kernel::at(FIXTURE).expect("a kernel");
        let plans = events.iter().map(|name| {
            let event = Probed::Event(kernel.tracepoint(name).expect(name));
            let plan = event.plan(None, 64, Hook::Event).expect("a plan");
            plan.with_stacks().expect("stacks")
        });
        description(DescribedResults::Records {
            plans: plans.collect::<Vec<_>>().into(),
            ids: events.iter().map(|_| Some(5)).collect(),
        })
    }

    fn parsed(value: &Value) -> Result<PinDescription, PinError> {
        PinDescription::parse(value.to_string().as_bytes())
    }

    /// What is written is read: the same places, names and manners.
    #[test]
    fn a_description_is_read_as_it_was_written() {
        let written = of_records(&["sched:sched_switch", "syscalls:sys_enter_openat"]);
        let text = serde_json::to_vec(&written).expect("JSON");
        let read = PinDescription::parse(&text).expect("it is sound");
        assert_eq!(format!("{read:?}"), format!("{written:?}"));

        let mut other = serde_json::to_value(&written).expect("JSON");
        other["version"] = json!("0.0.1");
        match parsed(&other) {
            Err(PinError::Version { version }) => assert_eq!(version, "0.0.1"),
            other => panic!("{other:?}"),
        }
        for text in [&b""[..], b"{}", b"\xff", b"[1]", &text[..text.len() - 1]] {
            let read = PinDescription::parse(text);
            assert!(matches!(read, Err(PinError::Description(_))), "{read:?}");
        }
    }

    /// Calls the function with the value in which one number is another, for each number.
    fn with_other_numbers(value: &Value, other: &Value, each: &mut impl FnMut(&Value)) {
        fn paths(value: &Value, path: &str, all: &mut Vec<String>) {
            match value {
                Value::Number(_) => all.push(path.to_owned()),
                Value::Array(values) => {
                    for (index, value) in values.iter().enumerate() {
                        paths(value, &format!("{path}/{index}"), all);
                    }
                }
                Value::Object(values) => {
                    for (key, value) in values {
                        paths(value, &format!("{path}/{key}"), all);
                    }
                }
                _ => {}
            }
        }
        let mut all = Vec::new();
        paths(value, "", &mut all);
        for path in all {
            let mut changed = value.clone();
            *changed.pointer_mut(&path).expect("it is there") = other.clone();
            each(&changed);
        }
    }

    /// A description is anyone's: whatever its numbers are, it is refused, or records are read.
    #[test]
    fn no_description_leads_out_of_a_record() {
        let written = of_records(&["sched:sched_switch", "syscalls:sys_enter_openat"]);
        let written = serde_json::to_value(&written).expect("JSON");
        let (mut refused, mut read) = (0, 0);
        for other in [0u32, 1, 3, 39, 31_999, 32_000, 1 << 31, u32::MAX] {
            with_other_numbers(&written, &json!(other), &mut |changed| {
                let Ok(description) = parsed(changed) else {
                    refused += 1;
                    return;
                };
                let DescribedResults::Records { plans, .. } = description.results else {
                    panic!("records");
                };
                for fill in [0, 0x7f, 0xff] {
                    let mut bytes = vec![fill; 40_000];
                    for event in 0..2u32 {
                        let at = header::EVENT as usize;
                        bytes[at..at + 4].copy_from_slice(&event.to_ne_bytes());
                        let (mut first, _) = ProbeRecord::new(&plans, &bytes).expect("a record");
                        let (second, _) = ProbeRecord::new(&plans, &bytes).expect("a record");
                        first.join(&second, u32::MAX);
                        let _ = (first.to_string(), first.user_stack().count());
                        read += 1;
                    }
                }
            });
        }
        assert!(refused > 100 && read > 100, "{refused} {read}");
    }

    #[test]
    fn a_part_behind_the_end_of_a_key_is_refused() {
        let kernel = Kernel::at(FIXTURE).expect("a kernel");
        let switch = kernel.tracepoint("sched:sched_switch").expect("an event");
        let by = ["prev_comm".to_owned(), "prev_pid".to_owned()];
        let plan = GroupPlan::new(&Probed::Event(switch), &by, Some("next_pid"), Hook::Event);
        let written = description(DescribedResults::Groups {
            by: by.to_vec(),
            measured: Some("next_pid".to_owned()),
            plans: vec![plan.expect("a plan")],
        });
        let mut value = serde_json::to_value(&written).expect("JSON");
        assert!(parsed(&value).is_ok());
        let at = value.pointer_mut("/results/Groups/plans/0/parts/1/1");
        *at.expect("a place") = json!(169);
        assert!(matches!(parsed(&value), Err(PinError::Layout)));
    }
}
