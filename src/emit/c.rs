//! Structs in C, with every type they need to compile on their own.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{self, Write};

use super::c_options::{COptions, CSurroundings};
use super::history::History;
use super::portability::Portability;
use super::{Emitted, layout_error};
use crate::btf::BtfError;
use crate::error::Error;
use crate::kernel::Tracepoint;
use crate::layout::ctype::{CType, RecordKeyword};
use crate::layout::{Layout, Slot};

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
    /// The name of the kernel, if the text says it.
    kernel: Option<String>,
    portability: Vec<Portability>,
}

/// The definitions so far.
#[derive(Clone, Debug, Default)]
struct Definitions {
    /// Whether libbpf relocates offsets and sizes. It finds types by their names in the
    /// kernel, so these are kept.
    is_relocated: bool,
    /// Whether the text defines no types but structs of contexts.
    is_plain: bool,
    text: String,
    /// The definition of each `struct x`, `enum y` or typedef `z`, to detect another of
    /// that name.
    known: HashMap<String, String>,
    enumerators: HashMap<String, usize>,
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

    /// Begins the text with a comment that names the kernel that it is from. With
    /// [`preserve_access_index`](COptions::preserve_access_index) it also says on which
    /// other kernels it is known not to be right: see
    /// [`portability`](Self::portability).
    #[must_use]
    pub fn of_kernel(mut self, label: &str) -> Self {
        self.kernel = Some(label.to_owned());
        self
    }

    /// Lets a compiler that includes the text again step over it: `#ifndef` of this name,
    /// in capitals, with `_` for other characters than letters and digits.
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
    /// [`Error::NoStruct`] if the header is for CO-RE and the context has no
    /// struct of a known name; [`Error::Conflict`] if the header already has
    /// another type of the same name, when it is left as it was;
    /// [`Error::Layout`] if the types cannot be written in C; and those of
    /// [`Tracepoint::context`].
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
            // vmlinux.h has it. That of another kernel may differ where it is relocated.
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
        // What has 8 bytes in a program and fewer on a 32-bit kernel is relocated.
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
            if !self.definitions.known.contains_key(name) {
                let text = format!("typedef {of} {name};\n");
                self.definitions.text += &text;
                self.definitions.known.insert(name.to_owned(), text);
            }
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

enum Failure {
    /// Another type of this name is defined already.
    Conflict(String),
    Layout(BtfError),
}

impl From<fmt::Error> for Failure {
    fn from(_: fmt::Error) -> Self {
        Self::Layout(BtfError::Describe("cannot be written".to_owned()))
    }
}

impl Definitions {
    /// Defines the types that the members of a struct or union need.
    fn members(&mut self, layout: &Layout) -> Result<(), Failure> {
        layout
            .slots()
            .iter()
            .try_for_each(|slot| self.need(&slot.ty))
    }

    /// Defines the types that a value of this type, or a pointer to it, needs.
    fn need(&mut self, ty: &CType) -> Result<(), Failure> {
        let concrete = self.concrete(ty);
        match &*concrete {
            CType::Pointer { target, .. } | CType::Qualified { target, .. } => self.need(target),
            CType::Array { element, .. } => self.need(element),
            CType::Function {
                result, parameters, ..
            } => {
                self.need(result)?;
                parameters
                    .iter()
                    .try_for_each(|parameter| self.need(parameter))
            }
            CType::Typedef { name, target } => {
                self.need(target)?;
                let target = self.concrete(target);
                let declaration = target.declare_with(name, &|ty| self.specifier(ty, 0));
                self.define(name, format!("typedef {declaration};\n"))
            }
            CType::Enum {
                name: Some(name), ..
            } => {
                let key = format!("enum {name}");
                if self.known.contains_key(&key) {
                    return Ok(());
                }
                let text = format!("{};\n", self.new_enumeration(&concrete));
                self.define(&key, text)
            }
            CType::Record {
                keyword,
                name: Some(name),
                body,
            } => {
                let key = format!("{} {name}", keyword.as_str());
                match body {
                    None if self.known.contains_key(&key) => Ok(()),
                    None => self.declare(&key),
                    Some(body) => {
                        self.members(body)?;
                        let text = format!("{key} {};\n", self.body(body, 0)?);
                        self.define(&key, text)
                    }
                }
            }
            CType::Record {
                body: Some(body), ..
            } => self.members(body),
            _ => Ok(()),
        }
    }

    fn declare(&mut self, key: &str) -> Result<(), Failure> {
        self.known.insert(key.to_owned(), String::new());
        Ok(writeln!(self.text, "{key};")?)
    }

    fn define(&mut self, key: &str, text: String) -> Result<(), Failure> {
        match self.known.get(key) {
            // It is only declared so far, or not known.
            None => {}
            Some(known) if known.is_empty() => {}
            Some(known) if *known == text => return Ok(()),
            Some(_) => return Err(Failure::Conflict(key.to_owned())),
        }
        // An empty line precedes a struct.
        if text.contains('{') && !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text += &text;
        self.known.insert(key.to_owned(), text);
        Ok(())
    }

    /// The words before a declarator.
    fn specifier(&self, ty: &CType, indent: usize) -> String {
        match ty {
            CType::Record {
                keyword,
                name,
                body,
            } => match (name, body) {
                (Some(name), _) => format!("{} {name}", keyword.as_str()),
                (None, Some(body)) => match self.body(body, indent) {
                    Ok(body) => format!("{} {body}", keyword.as_str()),
                    // `members` has already accepted it.
                    Err(_) => "void".to_owned(),
                },
                (None, None) => "void".to_owned(),
            },
            CType::Enum {
                name: Some(name), ..
            } => format!("enum {name}"),
            // Each use of an anonymous enum would define its enumerators again.
            CType::Enum { size, signed, .. } => integer(*size, *signed).to_owned(),
            CType::Spelled { size, signed, .. } => integer(*size, *signed).to_owned(),
            CType::Int { name, .. } | CType::Float { name, .. } | CType::Typedef { name, .. } => {
                name.clone()
            }
            _ => "void".to_owned(),
        }
    }

    /// Returns the braces of a struct or union, with the attributes after them.
    fn body(&self, layout: &Layout, indent: usize) -> Result<String, Failure> {
        let tabs = "\t".repeat(indent + 1);
        let packed = is_packed(layout);
        let mut text = String::from("{\n");
        let mut padding = Padding::default();
        let mut at = 0u64;
        for slot in layout.slots() {
            if layout.keyword() == RecordKeyword::Struct {
                if slot.bit_offset() < at {
                    return Err(overlap(layout, slot));
                }
                // Gaps are filled even if C leaves them by itself, because on another
                // machine it might not.
                padding.write(&mut text, &tabs, at, slot.bit_offset())?;
                at = slot.bit_offset() + slot.width().map_or(u64::from(slot.size()) * 8, u64::from);
            }
            let member = self.member(slot, indent + 1);
            let width = slot.width().map(|width| format!(" : {width}"));
            let spelled = self
                .spelling(&slot.ty)
                .map(|text| format!(" {}", comment(&text)));
            writeln!(
                text,
                "{tabs}{member}{};{}",
                width.unwrap_or_default(),
                spelled.unwrap_or_default()
            )?;
        }
        let end = u64::from(layout.size()) * 8;
        if layout.keyword() == RecordKeyword::Struct {
            if at > end {
                return Err(Failure::Layout(BtfError::Describe(format!(
                    "the members of {} end after it",
                    layout.name().unwrap_or("a struct")
                ))));
            }
            padding.write(&mut text, &tabs, at, end)?;
        }
        let tabs = "\t".repeat(indent);
        let attribute = if packed {
            " __attribute__((packed))"
        } else {
            ""
        };
        write!(text, "{tabs}}}{attribute}")?;
        Ok(text)
    }

    /// Returns the type to use in C for eBPF. A format file's type becomes an integer, a
    /// pointer or an array of bytes; a `long` or pointer of a 32-bit kernel becomes an
    /// integer, because it would have 8 bytes in a program. Any other type stays.
    fn concrete<'t>(&self, ty: &'t CType) -> Cow<'t, CType> {
        if self.is_plain
            && let Some(plain) = self.plain(ty)
        {
            return Cow::Owned(self.concrete(&plain).into_owned());
        }
        let other = match ty {
            CType::Spelled {
                is_pointer: true,
                size: 8,
                ..
            } => CType::Pointer {
                target: Box::new(CType::Void),
                size: 8,
            },
            CType::Spelled {
                size: 1 | 2 | 4 | 8,
                ..
            } => return Cow::Borrowed(ty),
            CType::Spelled { size, .. } => CType::Array {
                element: Box::new(CType::Int {
                    name: "unsigned char".to_owned(),
                    size: 1,
                    signed: false,
                }),
                count: *size,
            },
            CType::Array { element, count } => match self.concrete(element) {
                Cow::Borrowed(_) => return Cow::Borrowed(ty),
                Cow::Owned(element) => CType::Array {
                    element: Box::new(element),
                    count: *count,
                },
            },
            CType::Qualified { qualifier, target } => match self.concrete(target) {
                Cow::Borrowed(_) => return Cow::Borrowed(ty),
                Cow::Owned(target) => CType::Qualified {
                    qualifier,
                    target: Box::new(target),
                },
            },
            CType::Pointer { size, .. } if self.is_narrow(ty) => CType::Spelled {
                text: ty.declare(""),
                size: *size,
                signed: false,
                is_pointer: true,
            },
            CType::Int { name, size, signed } if self.is_narrow(ty) => CType::Spelled {
                text: name.clone(),
                size: *size,
                signed: *signed,
                is_pointer: false,
            },
            _ => return Cow::Borrowed(ty),
        };
        Cow::Owned(other)
    }

    /// Returns the type that stands for one whose name other headers may define. Names of
    /// enums matter for relocation, and only these stay, as flavours.
    fn plain(&self, ty: &CType) -> Option<CType> {
        let bytes = |count| CType::Array {
            element: Box::new(CType::Int {
                name: "unsigned char".to_owned(),
                size: 1,
                signed: false,
            }),
            count,
        };
        match ty {
            CType::Typedef { target, .. } => Some((**target).clone()),
            CType::Record { .. } => Some(bytes(ty.size())),
            CType::Pointer { target, size } => {
                let is_void = matches!(**target, CType::Void);
                (!is_void).then(|| CType::Pointer {
                    target: Box::new(CType::Void),
                    size: *size,
                })
            }
            CType::Enum {
                name, size, signed, ..
            } if !is_flavour(name.as_deref()) => {
                match name.as_deref().filter(|_| self.is_relocated) {
                    Some(name) => Some(CType::Enum {
                        name: Some(format!("{name}{FLAVOUR}")),
                        size: *size,
                        signed: *signed,
                        values: vec![(format!("{name}{FLAVOUR}_0"), 0)],
                    }),
                    None => Some(CType::Spelled {
                        text: ty.declare(""),
                        size: *size,
                        signed: *signed,
                        is_pointer: false,
                    }),
                }
            }
            _ => None,
        }
    }

    fn is_narrow(&self, ty: &CType) -> bool {
        !self.is_relocated && is_narrow(ty)
    }

    /// Returns the kernel's spelling of a type, if the text has another.
    fn spelling(&self, ty: &CType) -> Option<String> {
        match ty {
            _ if self.is_plain && *self.concrete(ty) != *ty => Some(ty.declare("")),
            CType::Spelled { text, .. } => Some(text.clone()),
            CType::Array { element, .. } => self.spelling(element),
            CType::Qualified { target, .. } if self.is_narrow(target) => Some(ty.declare("")),
            narrow if self.is_narrow(narrow) => Some(ty.declare("")),
            _ => None,
        }
    }

    fn member(&self, slot: &Slot, indent: usize) -> String {
        self.concrete(&slot.ty)
            .declare_with(slot.name(), &|ty| self.specifier(ty, indent))
            .trim_end()
            .to_owned()
    }

    /// `enum x { … }`; a name another enum has already gets a number, as
    /// bpftool gives it one.
    fn new_enumeration(&mut self, ty: &CType) -> String {
        let CType::Enum {
            name, size, values, ..
        } = ty
        else {
            return String::new();
        };
        let mode = match size {
            1 => " __attribute__((mode(QI)))",
            2 => " __attribute__((mode(HI)))",
            8 => " __attribute__((mode(DI)))",
            _ => "",
        };
        let mut text = format!("enum {} {{\n", name.as_deref().unwrap_or_default());
        for (enumerator, value) in values {
            let count = self.enumerators.entry(enumerator.clone()).or_default();
            *count += 1;
            text += &match count {
                1 => format!("\t{enumerator} = {value},\n"),
                count => format!("\t{enumerator}___{count} = {value},\n"),
            };
        }
        text + "}" + mode
    }
}

/// Returns a comment of one line. The text is untrusted, from a format file, and cannot
/// end the comment early.
pub(super) fn comment(text: &str) -> String {
    format!("/* {} */", in_comment(text))
}

/// Returns untrusted text as it may stand inside a comment.
fn in_comment(text: &str) -> String {
    text.replace("*/", "* /").replace("/*", "/ *")
}

/// The end of names of types that stand for the kernel's: libbpf ignores three
/// underscores and what follows.
const FLAVOUR: &str = "___plain";

fn is_flavour(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.ends_with(FLAVOUR))
}

/// Whether a type has 8 bytes in a program and fewer in the kernel.
fn is_narrow(ty: &CType) -> bool {
    let is_long = |name: &str| {
        let longs = name.split(' ').filter(|word| *word == "long");
        longs.count() == 1 && !name.contains("double")
    };
    match ty {
        CType::Pointer { size, .. } => *size < 8,
        CType::Int { name, size, .. } => *size < 8 && is_long(name),
        _ => false,
    }
}

/// Whether a member has such a type.
fn has_narrow(layout: &Layout) -> bool {
    layout.slots().iter().any(|slot| {
        let mut ty = slot.ty.resolved();
        while let CType::Array { element, .. } = ty {
            ty = element.resolved();
        }
        is_narrow(ty) || slot.nested().is_some_and(has_narrow)
    })
}

/// Returns a name for a macro.
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

fn overlap(layout: &Layout, slot: &Slot) -> Failure {
    Failure::Layout(BtfError::Describe(format!(
        "{} of {} overlaps the member before it",
        slot.name(),
        layout.name().unwrap_or("a struct")
    )))
}

/// Whether C, which aligns members, would lay them out differently.
fn is_packed(layout: &Layout) -> bool {
    !layout.size().is_multiple_of(layout.align()) || !layout.is_aligned()
}

/// Members that fill gaps.
#[derive(Default)]
struct Padding {
    count: usize,
}

impl Padding {
    /// Fills from bit `from` to bit `to`.
    fn write(&mut self, text: &mut String, tabs: &str, from: u64, to: u64) -> fmt::Result {
        let to_byte = from.next_multiple_of(8).min(to) - from;
        let rest = to - from - to_byte;
        if to_byte > 0 {
            writeln!(text, "{tabs}unsigned char : {to_byte};")?;
        }
        if rest >= 8 {
            writeln!(
                text,
                "{tabs}unsigned char __pad{}[{}];",
                self.count,
                rest / 8
            )?;
            self.count += 1;
        }
        if !rest.is_multiple_of(8) {
            writeln!(text, "{tabs}unsigned char : {};", rest % 8)?;
        }
        Ok(())
    }
}

/// The integer type of this many bytes.
pub(super) fn integer(size: u32, signed: bool) -> &'static str {
    match (size, signed) {
        (1, false) => "unsigned char",
        (1, true) => "signed char",
        (2, false) => "unsigned short",
        (2, true) => "short",
        (4, false) => "unsigned int",
        (4, true) => "int",
        (_, false) => "unsigned long long",
        (_, true) => "long long",
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
