//! Structs in C, with every type they need to compile on their own.

use std::fmt;

use super::c_definitions::{Definitions, Failure, has_narrow};
use super::c_options::{COptions, CSurroundings};
use super::history::History;
use super::portability::Portability;
use super::{Emitted, layout_error};
use crate::error::Error;
use crate::kernel::Tracepoint;
use crate::layout::Layout;

/// A header in C: the context structs of tracepoints and the types they hold,
/// each once. It compiles without `vmlinux.h` or any other header.
///
/// ```
/// use tracepoints::Kernel;
/// use tracepoints::emit::{CHeader, COptions};
///
/// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
/// let mut header = CHeader::new(COptions::default());
/// header.add(&kernel.tracepoint("sched:sched_process_free")?)?;
/// assert!(header.to_string().contains("\
/// struct trace_event_raw_sched_process_template {
/// \tstruct trace_entry ent;
/// \tu32 __data_loc_comm;
/// \tpid_t pid;
/// \tint prio;
/// \tchar __data[0];
/// };
/// "));
/// # Ok::<(), tracepoints::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct CHeader {
    options: COptions,
    definitions: Definitions,
    assertions: String,
    guard: Option<String>,
    /// The name of the kernel, if the text names it.
    kernel: Option<String>,
    portability: Vec<Portability>,
}

impl CHeader {
    /// Creates an empty header.
    pub fn new(options: COptions) -> Self {
        Self {
            options,
            definitions: Definitions {
                is_relocated: options.preserve_access_index,
                is_plain: options.surroundings != CSurroundings::None,
                ..Definitions::default()
            },
            ..Self::default()
        }
    }

    /// Begins the text with a comment that names its kernel. With
    /// [`preserve_access_index`](COptions::preserve_access_index) the comment also lists
    /// other kernels on which the text is known to be wrong: see
    /// [`portability`](Self::portability).
    #[must_use]
    pub fn of_kernel(mut self, label: &str) -> Self {
        self.kernel = Some(label.to_owned());
        self
    }

    /// Adds an include guard, by which a compiler skips the text when it is included again:
    /// `#ifndef` of this name, in capitals, with `_` for characters other than letters and
    /// digits.
    #[must_use]
    pub fn guarded_by(mut self, name: &str) -> Self {
        self.guard = Some(macro_name(name));
        self
    }

    /// Returns what is known of the added events on other kernels, one for each event
    /// with a remark. Empty without
    /// [`preserve_access_index`](COptions::preserve_access_index), as other text is for
    /// one kernel.
    ///
    /// ```
    /// use tracepoints::Kernel;
    /// use tracepoints::emit::{CHeader, COptions};
    ///
    /// let kernel = Kernel::at("tests/fixtures/6.1.192-rt-x86_64")?;
    /// let options = COptions::default().preserve_access_index(true);
    /// let mut header = CHeader::new(options).of_kernel("6.1.192-rt");
    /// header.add(&kernel.tracepoint("sched:sched_process_exit")?)?;
    /// assert_eq!(header.portability().len(), 1);
    /// assert!(header.to_string().starts_with("/*\n * From kernel 6.1.192-rt."));
    /// # Ok::<(), tracepoints::Error>(())
    /// ```
    pub fn portability(&self) -> &[Portability] {
        &self.portability
    }

    /// Adds the context struct of a tracepoint, and what it needs.
    ///
    /// Returns the struct's name: the kernel's if the context has one, otherwise
    /// `<event>_context`. The types of the latter are those of the first candidate or,
    /// without BTF, integers of the sizes in the format file.
    ///
    /// # Errors
    ///
    /// [`Error::NoStruct`] if the header is for CO-RE and the context has no struct of a
    /// known name; [`Error::Conflict`] if the header already has another type of the same
    /// name, in which case it is left as it was; [`Error::Layout`] if the types cannot be
    /// written in C; and those of [`Tracepoint::context`].
    pub fn add(&mut self, tracepoint: &Tracepoint) -> Result<String, Error> {
        let emitted = Emitted::of(tracepoint)?;
        if self.options.preserve_access_index && emitted.context.struct_name().is_none() {
            return Err(Error::NoStruct {
                name: tracepoint.name().clone(),
                reason: emitted.context.evidence().to_string(),
            });
        }
        let portability = match self.options.preserve_access_index {
            true => Some(History::known().portability(tracepoint)?),
            false => None,
        };
        let portability = portability.filter(|one| !one.remarks().is_empty());
        let name = emitted.struct_name;
        let mut definitions = self.definitions.clone();
        let key = format!("struct {name}");
        let before = definitions.known.len();
        if self.options.surroundings == CSurroundings::Vmlinux
            && emitted.context.struct_name().is_some()
            && emitted.context.home() == Some("vmlinux")
        {
            // `vmlinux.h` has the struct. Another kernel's may differ where it is
            // relocated.
            let is_new = definitions.known.insert(key, name.clone()).is_none();
            if is_new && self.options.assertions && !self.options.preserve_access_index {
                self.assertions += &assertions(&name, &emitted.layout);
            }
            self.definitions = definitions;
            self.portability.extend(portability);
            return Ok(name);
        }
        let needed = match self.options.contexts_only {
            true => Ok(()),
            false => definitions.members(&emitted.layout),
        };
        needed
            .and_then(|()| {
                let remark = emitted
                    .remark
                    .map(|remark| format!("{}\n", comment(&remark)));
                let body = definitions.body(&emitted.layout, 0)?;
                let text = format!("{}{key} {body};\n", remark.unwrap_or_default());
                definitions.define(&key, text)
            })
            .map_err(|failure| match failure {
                Failure::Conflict(of) => Error::Conflict {
                    name: tracepoint.name().clone(),
                    of,
                },
                Failure::Layout(source) => layout_error(tracepoint, source),
            })?;
        let is_new = definitions.known.len() > before;
        self.definitions = definitions;
        // Types that have 8 bytes in a program and fewer on a 32-bit kernel are relocated.
        let is_asserted = !self.definitions.is_relocated || !has_narrow(&emitted.layout);
        if self.options.assertions && is_new && is_asserted {
            self.assertions += &assertions(&name, &emitted.layout);
        }
        self.portability.extend(portability);
        Ok(name)
    }
}

impl CHeader {
    /// Defines the types that libbpf's `bpf_helpers.h` requires, as the kernel does, if
    /// they are not defined yet. `linux/types.h` would define more, and some of them
    /// differently from the kernel's BTF.
    pub(super) fn add_helper_types(&mut self) {
        for (name, of) in [
            ("__u8", "unsigned char"),
            ("__u16", "short unsigned int"),
            ("__u32", "unsigned int"),
            ("__u64", "long long unsigned int"),
            ("__s8", "signed char"),
            ("__s16", "short int"),
            ("__s32", "int"),
            ("__s64", "long long int"),
            ("__be16", "__u16"),
            ("__be32", "__u32"),
            ("__wsum", "__u32"),
        ] {
            self.definitions.add_typedef(name, of);
        }
    }
}

impl fmt::Display for CHeader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(label) = &self.kernel {
            self.write_head(label, out)?;
        }
        if let Some(guard) = &self.guard {
            write!(out, "#ifndef {guard}\n#define {guard}\n\n")?;
        }
        let core = self.options.preserve_access_index && !self.definitions.text.is_empty();
        if core {
            out.write_str(
                "#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)\n\n",
            )?;
        }
        out.write_str(&self.definitions.text)?;
        if core {
            out.write_str("\n#pragma clang attribute pop\n")?;
        }
        if !self.assertions.is_empty() {
            write!(out, "\n{}", self.assertions)?;
        }
        match &self.guard {
            Some(guard) => write!(out, "\n#endif /* {guard} */\n"),
            None => Ok(()),
        }
    }
}

impl CHeader {
    fn write_head(&self, label: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = in_comment(&label.escape_debug().to_string());
        write!(out, "/*\n * From kernel {label}.")?;
        if !self.options.preserve_access_index {
            return out.write_str(" Other kernels may have other layouts.\n */\n");
        }
        let kernels: Vec<&str> = History::known().kernels().collect();
        writeln!(
            out,
            " libbpf relocates it by the names of structs and members.\n \
             * It was compared with what these have: {}.",
            kernels.join(", ")
        )?;
        if self.portability.is_empty() {
            out.write_str(" * They have these events alike, or do not have them.\n")?;
        }
        for portability in &self.portability {
            for line in portability.to_string().lines() {
                writeln!(out, " * {}", in_comment(line))?;
            }
        }
        out.write_str(" */\n")
    }
}

/// Returns a comment of one line. The text is untrusted, from a format file, and cannot
/// end the comment early.
pub(super) fn comment(text: &str) -> String {
    format!("/* {} */", in_comment(text))
}

/// Returns untrusted text in a form that may stand inside a comment.
fn in_comment(text: &str) -> String {
    text.replace("*/", "* /").replace("/*", "/ *")
}

/// Returns a text as the name of a macro.
pub(super) fn macro_name(text: &str) -> String {
    let plain = text.chars().map(|c| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    });
    let name: String = plain.collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        true => format!("_{name}"),
        false => name,
    }
}

fn assertions(name: &str, layout: &Layout) -> String {
    let size = layout.size();
    let mut text =
        format!("_Static_assert(sizeof(struct {name}) == {size}, \"size of {name}\");\n");
    for slot in layout.slots() {
        if slot.name().is_empty() || slot.width().is_some() {
            continue;
        }
        let (member, offset, size) = (slot.name(), slot.offset(), slot.size());
        text += &format!(
            "_Static_assert(__builtin_offsetof(struct {name}, {member}) == {offset}, \"offset of {name}.{member}\");\n\
             _Static_assert(sizeof(((struct {name} *)0)->{member}) == {size}, \"size of {name}.{member}\");\n"
        );
    }
    text
}
