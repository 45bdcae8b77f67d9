//! Whether a program relocated by names reads the same on other kernels.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::history::{self, History, HistoryRow};
use super::layout_error;
use crate::btf::{BtfError, Object, STRUCT_PREFIX};
use crate::context::{Context, Evidence};
use crate::error::Error;
use crate::kernel::Tracepoint;
use crate::layout::Layout;
use crate::name::EventName;

/// How a program that uses one kernel's struct of an event fares on other kernels: see
/// [`History::portability`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portability {
    event: EventName,
    remarks: Vec<PortabilityRemark>,
}

/// How a program fares on some kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortabilityRemark {
    kernels: Vec<&'static str>,
    elsewhere: Elsewhere,
}

/// How a program fares on another kernel, if not as on its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Elsewhere {
    /// It loads and reads other bytes: the event has another struct there, and libbpf
    /// finds the program's, which is that of other events.
    Misread {
        /// The event's struct there.
        struct_name: String,
        /// The members that are elsewhere in the event's struct, or not in it.
        members: Vec<String>,
    },
    /// It loads only if it does not read these members, which the struct does not have
    /// there.
    LacksMembers {
        /// The members.
        members: Vec<String>,
    },
    /// It does not load: the event has another struct there, and the program's does not
    /// exist.
    LacksStruct {
        /// The event's struct there.
        struct_name: String,
    },
    /// These members have another type, size or sign there. libbpf adapts loads of
    /// unsigned integers to another size, and refuses others.
    Retyped {
        /// The members.
        members: Vec<String>,
    },
    /// The event has another struct there; whether libbpf finds the program's is not
    /// known.
    OtherStruct {
        /// The event's struct there.
        struct_name: String,
    },
    /// It reads other bytes on its own kernel: the struct is a module's, and libbpf takes
    /// the one of the same name in vmlinux.
    Shadowed {
        /// The members that are elsewhere.
        members: Vec<String>,
    },
}

impl Portability {
    pub(super) fn of(history: &History, tracepoint: &Tracepoint) -> Result<Self, Error> {
        let context = tracepoint.context()?;
        let mut remarks = Vec::new();
        if let Some(struct_name) = context.struct_name() {
            let layout = context.layout()?;
            let is_syscall = is_syscall(&context);
            let vmlinux = tracepoint.kernel().vmlinux()?;
            let wrong = misread(vmlinux.as_slice(), struct_name, &layout, is_syscall);
            let wrong = wrong.map_err(|source| layout_error(tracepoint, source))?;
            if let Some(members) = wrong.filter(|members| !members.is_empty()) {
                remarks.push(PortabilityRemark {
                    kernels: Vec::new(),
                    elsewhere: Elsewhere::Shadowed { members },
                });
            }
            let own: HashMap<&str, String> = history::members(&layout, is_syscall)
                .map(|slot| (slot.name(), history::kind(slot)))
                .collect();
            let rows = history.rows(tracepoint);
            let there = rows.iter().filter(|row| !row.is_misread);
            for row in there.flat_map(|row| row.each_kernel()) {
                for elsewhere in compare(&row, rows, struct_name, &own) {
                    let mut alike = remarks.iter_mut();
                    match alike.find(|one| one.elsewhere == elsewhere) {
                        Some(alike) => alike.kernels.extend(history.labels(row.letters())),
                        None => remarks.push(PortabilityRemark {
                            kernels: history.labels(row.letters()).collect(),
                            elsewhere,
                        }),
                    }
                }
            }
        }
        Ok(Self {
            event: tracepoint.name().clone(),
            remarks,
        })
    }

    /// Returns the event's name.
    pub fn event(&self) -> &EventName {
        &self.event
    }

    /// Returns the differences; empty if none are known.
    pub fn remarks(&self) -> &[PortabilityRemark] {
        &self.remarks
    }
}

impl PortabilityRemark {
    /// Returns the kernels, as [`History::kernels`] names them; none for
    /// [`Shadowed`](Elsewhere::Shadowed).
    pub fn kernels(&self) -> &[&'static str] {
        &self.kernels
    }

    /// Returns how a program fares there.
    pub fn elsewhere(&self) -> &Elsewhere {
        &self.elsewhere
    }
}

/// Compares a kernel's own struct of an event with that of a row for one kernel.
fn compare(
    row: &HistoryRow,
    rows: &[HistoryRow],
    struct_name: &str,
    own: &HashMap<&str, String>,
) -> Vec<Elsewhere> {
    let there = row.struct_name.to_owned();
    let mut found = rows
        .iter()
        .filter(|one| one.is_misread && one.struct_name == struct_name);
    if let Some(found) = found.find(|one| one.letters().contains(row.letters())) {
        let wrong = found.members().map(|(name, _)| name);
        let members: Vec<String> = wrong
            .filter(|name| own.contains_key(name))
            .map(str::to_owned)
            .collect();
        return match members.is_empty() {
            true => Vec::new(),
            false => vec![Elsewhere::Misread {
                struct_name: there,
                members,
            }],
        };
    }
    if row.struct_name != struct_name {
        // For each struct that the event has on any kernel, the table says where else it
        // exists.
        let is_known = rows.iter().any(|one| one.struct_name == struct_name);
        return vec![match is_known {
            true => Elsewhere::LacksStruct { struct_name: there },
            false => Elsewhere::OtherStruct { struct_name: there },
        }];
    }
    let there: HashMap<&str, &str> = row.members().collect();
    let mut missing = Vec::new();
    let mut retyped = Vec::new();
    for (name, kind) in own {
        match there.get(name) {
            None => missing.push((*name).to_owned()),
            Some(there) if there != kind => retyped.push((*name).to_owned()),
            Some(_) => {}
        }
    }
    missing.sort();
    retyped.sort();
    let mut found = Vec::new();
    if !missing.is_empty() {
        found.push(Elsewhere::LacksMembers { members: missing });
    }
    if !retyped.is_empty() {
        found.push(Elsewhere::Retyped { members: retyped });
    }
    found
}

/// Returns the members of the struct that libbpf finds by this name in a kernel's objects,
/// as far as an event with `layout` has them elsewhere or not at all; `None` if there is no
/// such struct.
pub(super) fn misread(
    objects: &[Arc<Object>],
    struct_name: &str,
    layout: &Layout,
    is_syscall: bool,
) -> Result<Option<Vec<String>>, BtfError> {
    let found = found_by_libbpf(objects, struct_name)?;
    Ok(found.map(|found| misread_of(&found, layout, is_syscall)))
}

/// Returns the struct that libbpf finds by this name: vmlinux's, and a module's only if
/// vmlinux has none (`bpf_core_resolve_relo()`, `tools/lib/bpf/libbpf.c`).
pub(crate) fn found_by_libbpf(
    objects: &[Arc<Object>],
    struct_name: &str,
) -> Result<Option<Layout>, BtfError> {
    let found = objects.iter().find_map(|object| {
        let index = object.index();
        let class = struct_name.strip_prefix(STRUCT_PREFIX);
        let class = class.and_then(|class| index.classes_named(class).first());
        let id = class.map(|class| class.struct_id);
        Some((
            object,
            id.or_else(|| index.known_structs(struct_name).next())?,
        ))
    });
    found.map(|(object, id)| object.layout(id)).transpose()
}

/// Returns the members of the struct that libbpf found, as far as an event with `layout`
/// has them elsewhere or not at all.
pub(crate) fn misread_of(found: &Layout, layout: &Layout, is_syscall: bool) -> Vec<String> {
    let wrong = history::members(found, is_syscall).filter(|slot| {
        let own = layout.slot(slot.name());
        // An array of size 0 may have any number of elements.
        let sizes = own.map(|own| (own.size(), slot.size()));
        let is_sized = sizes.is_some_and(|(own, there)| own == there || own == 0 || there == 0);
        !is_sized || own.is_none_or(|own| own.bit_offset() != slot.bit_offset())
    });
    wrong.map(|slot| slot.name().to_owned()).collect()
}

/// Whether a context is that of a system call, whose struct is read by its values alone.
pub(crate) fn is_syscall(context: &Context) -> bool {
    matches!(context.evidence(), Evidence::Syscall(_))
}

/// Writes a line for each remark.
impl fmt::Display for Portability {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, remark) in self.remarks.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(out, "{newline}{}: {remark}", self.event)?;
        }
        Ok(())
    }
}

/// Writes `on 6.18.15-x86_64 the event's struct is …`.
impl fmt::Display for PortabilityRemark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = self.kernels.join(", ");
        match &self.elsewhere {
            Elsewhere::Misread {
                struct_name,
                members,
            } => write!(
                out,
                "WRONG on {on}: the event's struct there is {struct_name}, and this one, \
                 of other events there, has other bytes as {}",
                members.join(", ")
            ),
            Elsewhere::LacksMembers { members } => write!(
                out,
                "does not load on {on} if it reads {}: the struct has no such member there",
                members.join(", ")
            ),
            Elsewhere::LacksStruct { struct_name } => write!(
                out,
                "does not load on {on}: the event's struct there is {struct_name}"
            ),
            Elsewhere::Retyped { members } => write!(
                out,
                "of another type, size or sign on {on}: {}",
                members.join(", ")
            ),
            Elsewhere::OtherStruct { struct_name } => write!(
                out,
                "not known to be right on {on}: the event's struct there is {struct_name}"
            ),
            Elsewhere::Shadowed { members } => write!(
                out,
                "WRONG on this kernel: the struct is a module's, and libbpf takes \
                 vmlinux's of the same name, with other bytes as {}",
                members.join(", ")
            ),
        }
    }
}
