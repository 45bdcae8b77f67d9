//! One source in C for several kernels: an accessor for each field, right on all of them.
//!
//! libbpf finds structs and members by their names, and lets a program ask what it found.
//! Which struct an event has is therefore decided when the program is loaded, by which
//! structs exist: the struct of the event's own name comes before others. A program refuses
//! kernels it does not know: where no condition is fulfilled, it names a struct that exists
//! nowhere, `<event>_is_of_an_unknown_class`, which the verifier's log shows.
//!
//! Events of `syscalls:*` are read through the kernel's own `syscall_tp_t`, which is what
//! their programs get, and not through `trace_event_raw_sys_enter`.
//!
//! A field is loaded directly if all kernels that have it so allow it, and copied by
//! `bpf_probe_read_kernel` otherwise.

mod classes;
mod sites;
mod write;

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};

use super::c::{comment, macro_name};
use super::history::History;
use super::names::identifier;
use super::portability::Elsewhere;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::name::EventName;
use classes::{Choice, Classes};
use sites::Site;
use write::{Gives, Writer};

/// Accessors of events' fields in C, made from several kernels and right on each.
///
/// For every field of an event there is one `static __always_inline` function:
/// `<event>_<field>(ctx)`, which returns an integer, or `<event>_<field>(ctx, to, size)`,
/// which copies a string or bytes and returns their number or a negative error. A field
/// that only some of the kernels have also has a function `<event>_has_<field>(ctx)`;
/// without the field, the accessor returns 0 or `-ENOENT`. `<event>_<field>_str` copies the
/// text of a process to which an argument of a system call points.
///
/// The text needs clang, and libbpf 1.0's `bpf_helpers.h` and `bpf_core_read.h`, which it
/// includes. These headers need the types of `vmlinux.h`, or of `linux/bpf.h`, included
/// before the text.
///
/// ```
/// use tracepoints::Kernel;
/// use tracepoints::emit::CAccessors;
///
/// let root = |name: &str| Kernel::at(format!("tests/fixtures/{name}"));
/// let mut accessors = CAccessors::new([
///     ("6.1.192-rt", root("6.1.192-rt-x86_64")?),
///     ("6.18.15", root("6.18.15-x86_64")?),
/// ]);
/// accessors.add(&"sched:sched_process_exit".parse()?)?;
/// let text = accessors.to_string();
/// assert!(text.contains("static __always_inline int sched_process_exit_pid(const void *ctx)"));
/// assert!(accessors.notes().iter().any(|note| note.contains("group_dead")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CAccessors {
    kernels: Vec<(String, Kernel)>,
    text: String,
    guard: Option<String>,
    notes: Vec<String>,
    flavours: usize,
    /// Names of structs that are declared only to ask whether they exist.
    declared: HashSet<String>,
    functions: HashSet<String>,
    /// Events whose struct is chosen by a constant, with the structs in the constant's
    /// order.
    constants: HashMap<EventName, Vec<String>>,
}

impl CAccessors {
    /// Creates accessors for kernels, each with a label by which comments and notes name
    /// it.
    pub fn new<L: Into<String>>(kernels: impl IntoIterator<Item = (L, Kernel)>) -> Self {
        let kernels = kernels.into_iter();
        Self {
            kernels: kernels
                .map(|(label, kernel)| (label.into(), kernel))
                .collect(),
            text: String::new(),
            guard: None,
            notes: Vec::new(),
            flavours: 0,
            declared: HashSet::new(),
            functions: HashSet::new(),
            constants: HashMap::new(),
        }
    }

    /// Like [`CHeader::guarded_by`](super::CHeader::guarded_by).
    #[must_use]
    pub fn guarded_by(mut self, name: &str) -> Self {
        self.guard = Some(macro_name(name));
        self
    }

    /// Adds the accessors of an event.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchEvent`] if none of the kernels has the event; [`Error::NoStruct`] if
    /// none that has it has BTF that describes it, or if loaders find another struct of the
    /// same name on one of them; [`Error::Conflict`] if accessors of another event have the
    /// same name; and those of [`Kernel::tracepoint`] and
    /// [`Tracepoint::context`](crate::Tracepoint::context).
    pub fn add(&mut self, event: &EventName) -> Result<(), Error> {
        let mut notes = Vec::new();
        let (sites, kernels) = self.sites(event, &mut notes)?;
        let name = identifier(event.event());
        let classes = Classes::of(event.event(), &sites, &kernels)?;
        let mut writer = Writer {
            event: &name,
            sites: &sites,
            classes: &classes,
            flavours: Vec::new(),
            first_flavour: self.flavours,
        };
        let mut functions = Vec::new();
        let mut accessors = String::new();
        for field in fields(&sites) {
            let shapes: Vec<_> = sites.iter().filter_map(|site| site.shape(field)).collect();
            let missing = sites.iter().filter(|site| site.shape(field).is_none());
            let missing: Vec<&str> = missing.map(|site| &*site.label).collect();
            if !missing.is_empty() {
                notes.push(format!(
                    "{event}: no {field} in the context on {}",
                    missing.join(", ")
                ));
            }
            let mut gives = shapes.iter().rev().map(|shape| Gives::of(shape.how));
            let Some(Some(gives)) = gives.next() else {
                if !shapes.is_empty() {
                    notes.push(format!(
                        "{event}: {field} is of a type that programs cannot have"
                    ));
                }
                continue;
            };
            let others = sites.iter().filter(|site| {
                let shape = site.shape(field);
                shape.is_some_and(|shape| Gives::of(shape.how) != Some(gives))
            });
            for site in others {
                notes.push(format!(
                    "{event}: {field} is of another kind on {}: programs that read it do not load there",
                    site.label
                ));
            }
            functions.push(format!("{name}_{}", identifier(field)));
            accessors += "\n";
            accessors += &writer.field(field, gives, missing.is_empty());
        }
        if let Some(taken) = functions.iter().find(|one| self.functions.contains(*one)) {
            return Err(Error::Conflict {
                name: event.clone(),
                of: format!("function {taken}"),
            });
        }
        let refusal = accessors
            .contains("_is_of_an_unknown_class")
            .then(|| writer.refusal_struct());
        let flavours = std::mem::take(&mut writer.flavours);
        for (row, letters, taken) in classes.wrong_on(History::known().rows_of(event)) {
            let labels: Vec<_> = History::known().labels(&letters).collect();
            notes.push(format!(
                "{event}: WRONG on {}, which is not among these kernels: the event's struct there is {}, and {taken} is taken",
                labels.join(", "),
                row.struct_name
            ));
        }
        self.write(event, &sites, &classes);
        for flavour in &flavours {
            self.text += &flavour.text();
        }
        self.text.extend(refusal);
        self.text += &accessors;
        self.flavours += flavours.len();
        self.functions.extend(functions);
        self.notes.extend(notes);
        if classes.choice == Choice::ByConstant {
            self.constants.insert(event.clone(), classes.structs);
        }
        Ok(())
    }

    /// Returns the event as each kernel has it, and the kernels.
    fn sites(
        &self,
        event: &EventName,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<Site>, Vec<&Kernel>), Error> {
        let mut sites = Vec::new();
        let mut kernels = Vec::new();
        let mut missing = None;
        for (label, kernel) in &self.kernels {
            let tracepoint = match kernel.tracepoint(event) {
                Err(error @ Error::NoSuchEvent { .. }) => {
                    notes.push(format!("{event}: {label} does not have it"));
                    missing = Some(error);
                    continue;
                }
                other => other?,
            };
            let Some(site) = Site::of(label, &tracepoint)? else {
                let reason = tracepoint.context()?.evidence().to_string();
                notes.push(format!(
                    "{event}: nothing can be relocated on {label}: {reason}"
                ));
                missing = Some(Error::NoStruct {
                    name: event.clone(),
                    reason,
                });
                continue;
            };
            // No order of conditions helps if the name is that of another struct there.
            let portability = History::known().portability(&tracepoint)?;
            let mut remarks = portability.remarks().iter();
            if remarks.any(|remark| matches!(remark.elsewhere(), Elsewhere::Shadowed { .. })) {
                return Err(Error::NoStruct {
                    name: event.clone(),
                    reason: format!(
                        "on {label} its struct is a module's, and loaders take the one of \
                         the same name in vmlinux"
                    ),
                });
            }
            if !site.candidates.is_empty() {
                notes.push(format!(
                    "{event}: on {label} one of {}, which have one layout there; taken is {}",
                    site.candidates.join(", "),
                    site.struct_name
                ));
            }
            sites.push(site);
            kernels.push(kernel);
        }
        match (sites.is_empty(), missing) {
            (true, Some(error)) => Err(error),
            (true, None) => Err(Error::NoStruct {
                name: event.clone(),
                reason: "there are no kernels to make it from".to_owned(),
            }),
            _ => Ok((sites, kernels)),
        }
    }

    /// Writes the text before an event's flavours.
    fn write(&mut self, event: &EventName, sites: &[Site], classes: &Classes) {
        let labels: Vec<&str> = sites.iter().map(|site| &*site.label).collect();
        let about = format!("{event}, from {}.", labels.join(", "));
        let _ = write!(self.text, "\n{}\n", comment(&about));
        let name = identifier(event.event());
        match classes.choice {
            Choice::ByConstant => {
                let structs = classes.structs.iter().enumerate();
                let structs: Vec<String> = structs
                    .map(|(index, name)| format!("{} {name}", index + 1))
                    .collect();
                let set = format!("Set before the program is loaded: {}.", structs.join(", "));
                let _ = write!(
                    self.text,
                    "{}\nconst volatile unsigned int {name}_class = 0;\n",
                    comment(&set)
                );
            }
            Choice::ByExistence if classes.structs.len() > 1 => {
                for name in &classes.structs {
                    self.declare(&format!("{name}___any"));
                }
            }
            Choice::ByExistence => {}
        }
        if let Some(own) = &classes.own {
            self.declare(&format!("{own}___own"));
        }
    }

    fn declare(&mut self, name: &str) {
        if self.declared.insert(name.to_owned()) {
            let _ = write!(self.text, "struct {name} {{\n}};\n");
        }
    }

    /// Returns notes for the reader: events and fields that not all kernels have, what is
    /// not proven, and kernels on which the accessors are known to be wrong.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns the constants to set before the program is loaded on a kernel,
    /// `<event>_class` with its value, for events whose struct cannot be told by what
    /// exists. With 0, the value in the text, the verifier refuses the program.
    ///
    /// # Errors
    ///
    /// Those of [`Kernel::tracepoint`] and
    /// [`Tracepoint::context`](crate::Tracepoint::context).
    pub fn class_constants(&self, kernel: &Kernel) -> Result<Vec<(String, u32)>, Error> {
        let mut constants = Vec::new();
        for (event, structs) in &self.constants {
            let tracepoint = match kernel.tracepoint(event) {
                Err(Error::NoSuchEvent { .. }) => continue,
                other => other?,
            };
            let site = Site::of("", &tracepoint)?;
            let index = site.and_then(|site| {
                let mut structs = structs.iter();
                structs.position(|name| *name == site.struct_name)
            });
            if let Some(index) = index {
                let name = format!("{}_class", identifier(event.event()));
                constants.push((name, index as u32 + 1));
            }
        }
        constants.sort();
        Ok(constants)
    }
}

/// Returns the names of all fields that the context has on any kernel, in order.
fn fields(sites: &[Site]) -> Vec<&str> {
    let mut fields = Vec::new();
    for (field, shape) in sites.iter().rev().flat_map(|site| &site.fields) {
        if shape.is_some() && !fields.contains(&&**field) {
            fields.push(field);
        }
    }
    fields
}

impl fmt::Display for CAccessors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(guard) = &self.guard {
            write!(out, "#ifndef {guard}\n#define {guard}\n\n")?;
        }
        out.write_str("#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_core_read.h>\n")?;
        out.write_str(&self.text)?;
        match &self.guard {
            Some(guard) => write!(out, "\n#endif /* {guard} */\n"),
            None => Ok(()),
        }
    }
}
