//! Definitions of types in C, in an order in which each precedes its uses.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{self, Write};

use super::c::comment;
use crate::btf::BtfError;
use crate::layout::ctype::{CType, RecordKeyword};
use crate::layout::{Layout, Slot};

/// The definitions so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Definitions {
    /// Whether libbpf relocates offsets and sizes. It finds types by their names in the
    /// kernel, which are therefore kept.
    pub(super) is_relocated: bool,
    /// Whether the text defines no types except structs of contexts.
    pub(super) is_plain: bool,
    pub(super) text: String,
    /// The definition of each `struct x`, `enum y` or typedef `z`, by which another one of
    /// the same name is detected.
    pub(super) known: HashMap<String, String>,
    pub(super) enumerators: HashMap<String, usize>,
}

/// Why a struct cannot be written.
pub(super) enum Failure {
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
    pub(super) fn members(&mut self, layout: &Layout) -> Result<(), Failure> {
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

    /// Defines a name for a type, if it is not defined yet.
    pub(super) fn add_typedef(&mut self, name: &str, of: &str) {
        if !self.known.contains_key(name) {
            let text = format!("typedef {of} {name};\n");
            self.text += &text;
            self.known.insert(name.to_owned(), text);
        }
    }

    fn declare(&mut self, key: &str) -> Result<(), Failure> {
        self.known.insert(key.to_owned(), String::new());
        Ok(writeln!(self.text, "{key};")?)
    }

    pub(super) fn define(&mut self, key: &str, text: String) -> Result<(), Failure> {
        match self.known.get(key) {
            // The type is only declared so far, or not known.
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

    /// Returns the words before a declarator.
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
                    // `members` has already accepted the type.
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
    pub(super) fn body(&self, layout: &Layout, indent: usize) -> Result<String, Failure> {
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

    /// Returns the type that stands for one whose name other headers may define. Relocation
    /// depends on names of enums, so that only these stay, as flavours.
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

    /// Returns `enum x { … }`. A name that another enum already has gets a number, as in
    /// bpftool's output.
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

/// The suffix of names of types that stand for the kernel's: libbpf ignores three
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

/// Whether a member has a narrow type: see [`is_narrow`].
pub(super) fn has_narrow(layout: &Layout) -> bool {
    layout.slots().iter().any(|slot| {
        let mut ty = slot.ty.resolved();
        while let CType::Array { element, .. } = ty {
            ty = element.resolved();
        }
        is_narrow(ty) || slot.nested().is_some_and(has_narrow)
    })
}

fn overlap(layout: &Layout, slot: &Slot) -> Failure {
    Failure::Layout(BtfError::Describe(format!(
        "{} of {} overlaps the member before it",
        slot.name(),
        layout.name().unwrap_or("a struct")
    )))
}

/// Whether C, which aligns members, would lay the members out differently.
fn is_packed(layout: &Layout) -> bool {
    !layout.size().is_multiple_of(layout.align()) || !layout.is_aligned()
}

/// Members that fill gaps.
#[derive(Default)]
struct Padding {
    count: usize,
}

impl Padding {
    /// Fills the gap from bit `from` to bit `to`.
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

/// Returns the integer type of this many bytes.
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
