//! Accessors in C.

use std::fmt::Write as _;

use super::classes::{Choice, Classes};
use super::sites::{FieldShape, How, MemberType, Site};
use crate::emit::c::comment;
use crate::emit::c_definitions::integer;

/// A struct with the members that are read, under a name that libbpf takes for the
/// kernel's: it ignores three underscores and what follows.
#[derive(Debug)]
pub(super) struct Flavour {
    pub(super) of: String,
    pub(super) name: String,
    members: Vec<(String, MemberType)>,
}

/// The text of one event's accessors.
pub(super) struct Writer<'a> {
    pub(super) event: &'a str,
    pub(super) sites: &'a [Site],
    pub(super) classes: &'a Classes,
    /// The flavours of structs that the accessors use.
    pub(super) flavours: Vec<Flavour>,
    /// The number of flavours that other events have.
    pub(super) first_flavour: usize,
}

/// A way to read a field's value, and the kernels that have it.
struct Way<'a> {
    shape: Option<&'a FieldShape>,
    labels: Vec<&'a str>,
}

/// The kind of value that an accessor returns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    Number,
    Text,
    Bytes,
}

impl Gives {
    pub(super) fn of(how: How) -> Option<Self> {
        match how {
            How::Number { .. } => Some(Self::Number),
            How::Text | How::Located { is_text: true, .. } => Some(Self::Text),
            How::Bytes | How::Located { is_text: false, .. } => Some(Self::Bytes),
            How::Unreadable => None,
        }
    }
}

impl<'a> Writer<'a> {
    /// Returns the name of a flavour that has the shape's member with its type.
    fn flavour(&mut self, of: &str, shape: &FieldShape) -> String {
        let member = (shape.member.clone(), shape.member_type.clone());
        let fitting = self.flavours.iter_mut().find(|flavour| {
            flavour.of == of
                && flavour
                    .members
                    .iter()
                    .all(|one| one.0 != member.0 || one.1 == member.1)
        });
        if let Some(flavour) = fitting {
            if !flavour.members.contains(&member) {
                flavour.members.push(member);
            }
            return flavour.name.clone();
        }
        let name = format!("{of}___t{}", self.first_flavour + self.flavours.len());
        self.flavours.push(Flavour {
            of: of.to_owned(),
            name: name.clone(),
            members: vec![member],
        });
        name
    }

    /// Returns the ways to a field in a struct: one for each shape, and last the one of
    /// kernels without the field.
    fn ways(&self, struct_name: &str, field: &str) -> Vec<Way<'a>> {
        let mut ways: Vec<Way<'a>> = Vec::new();
        for site in self
            .sites
            .iter()
            .filter(|site| site.struct_name == struct_name)
        {
            let shape = site.shape(field);
            match ways.iter_mut().find(|way| way.shape == shape) {
                Some(way) => way.labels.push(&site.label),
                None => ways.push(Way {
                    shape,
                    labels: vec![&site.label],
                }),
            }
        }
        ways.sort_by_key(|way| way.shape.is_none());
        ways
    }

    /// Returns the condition for a kernel to have this shape, among several that the struct
    /// has.
    fn condition(&mut self, of: &str, shape: &FieldShape, others: &[Way<'_>]) -> String {
        let flavour = self.flavour(of, shape);
        let member = &shape.member;
        let mut text = format!("bpf_core_field_exists(struct {flavour}, {member})");
        let alike = others.iter().filter_map(|way| way.shape);
        let alike: Vec<&FieldShape> = alike
            .filter(|other| *other != shape && other.member == *member)
            .collect();
        if alike.is_empty() {
            return text;
        }
        if let (MemberType::Int { size, .. } | MemberType::Enum { size, .. }, true) = (
            &shape.member_type,
            alike
                .iter()
                .any(|other| size_of(&other.member_type) != size_of(&shape.member_type)),
        ) {
            let _ = write!(
                text,
                " && bpf_core_field_size(struct {flavour}, {member}) == {size}"
            );
        }
        if let MemberType::Int { signed, .. } = shape.member_type {
            let _ = write!(
                text,
                " && {}__builtin_preserve_field_info(((struct {flavour} *)0)->{member}, BPF_FIELD_SIGNED)",
                if signed { "" } else { "!" }
            );
        }
        text
    }

    /// Writes `body` for each way to a field, under the conditions that lead there.
    fn branches(
        &mut self,
        field: &str,
        body: &mut dyn FnMut(&mut Self, &str, Option<&FieldShape>) -> String,
    ) -> String {
        let mut text = String::new();
        let refusal = self.refusal();
        if let Some(own) = &self.classes.own {
            let _ = write!(
                text,
                "\tif (bpf_core_type_exists(struct {own}___own))\n\t\t{refusal}\n"
            );
        }
        let structs = &self.classes.structs;
        for (index, name) in structs.iter().enumerate() {
            let ways = self.ways(name, field);
            let is_only = structs.len() == 1;
            let mut inner = String::new();
            let mut is_open = true;
            for way in &ways {
                let statement = body(self, name, way.shape);
                let mut labels = way.labels.join(", ");
                labels = comment(&labels);
                match way.shape {
                    Some(shape) if ways.len() > 1 => {
                        let condition = self.condition(name, shape, &ways);
                        let _ = write!(
                            inner,
                            "\t{labels}\n\tif ({condition}) {{\n{}\t}}\n",
                            indented(&statement)
                        );
                    }
                    _ => {
                        let _ = write!(inner, "\t{labels}\n{statement}");
                        is_open = false;
                    }
                }
            }
            if is_open {
                let _ = writeln!(inner, "\t{refusal}");
            }
            let condition = match self.classes.choice {
                Choice::ByConstant => format!("{}_class == {}", self.event, index + 1),
                Choice::ByExistence => format!("bpf_core_type_exists(struct {name}___any)"),
            };
            match (is_only, &self.classes.choice) {
                (true, _) => text += &inner,
                _ => {
                    let _ = write!(text, "\tif ({condition}) {{\n{}\t}}\n", indented(&inner));
                }
            }
        }
        if structs.len() > 1 {
            let _ = writeln!(text, "\t{refusal}");
        }
        text
    }

    /// Returns a statement that libbpf cannot relocate and that names the struct, so that
    /// the verifier refuses the program if it is reached. It is not a load: clang would
    /// merge a load with others into one from a computed address, which verifiers refuse.
    fn refusal(&self) -> String {
        format!(
            "return bpf_core_field_offset(struct {}_is_of_an_unknown_class, here);",
            self.event
        )
    }

    pub(super) fn refusal_struct(&self) -> String {
        format!(
            "struct {}_is_of_an_unknown_class {{\n\tint here;\n}} __attribute__((preserve_access_index));\n",
            self.event
        )
    }

    /// Writes an accessor and, if some kernels do not have the field, a function that tells
    /// whether it is there.
    pub(super) fn field(&mut self, field: &str, gives: Gives, is_everywhere: bool) -> String {
        let event = self.event;
        let function = format!("{event}_{}", crate::emit::names::identifier(field));
        let mut text = String::new();
        let head = match is_everywhere {
            true => String::new(),
            false => {
                let with: Vec<&str> = self
                    .sites
                    .iter()
                    .filter(|site| site.shape(field).is_some())
                    .map(|site| &*site.label)
                    .collect();
                let has = self.branches(field, &mut |_, _, shape| {
                    format!("\treturn {};\n", i32::from(shape.is_some()))
                });
                let _ = write!(
                    text,
                    "/* Whether the kernel has {field}. */\n\
                     static __always_inline int {event}_has_{}(const void *ctx)\n{{\n{has}}}\n\n",
                    crate::emit::names::identifier(field)
                );
                format!(" Of these kernels only on {}.", with.join(", "))
            }
        };
        let declared = comment(&format!("{field}.{head}"));
        match gives {
            Gives::Number => {
                let (size, signed) = self.number(field);
                let ty = integer(size, signed);
                let body = self.branches(field, &mut |writer, name, shape| {
                    writer.number_statement(name, shape)
                });
                let _ = write!(
                    text,
                    "{declared}\nstatic __always_inline {ty} {function}(const void *ctx)\n{{\n{body}}}\n"
                );
                if self.is_user_text(field) {
                    let _ = write!(
                        text,
                        "\nstatic __always_inline long {function}_str(const void *ctx, char *to, unsigned int size)\n{{\n\
                         \treturn bpf_probe_read_user_str(to, size, (const void *)(unsigned long){function}(ctx));\n}}\n"
                    );
                }
            }
            Gives::Text | Gives::Bytes => {
                let body = self.branches(field, &mut |writer, name, shape| {
                    writer.copy_statement(name, shape, gives)
                });
                let to = if gives == Gives::Text { "char" } else { "void" };
                let _ = write!(
                    text,
                    "{declared}\nstatic __always_inline long {function}(const void *ctx, {to} *to, unsigned int size)\n{{\n{body}}}\n"
                );
            }
        }
        text
    }

    /// Returns the size and sign of an integer that can hold every value of a field.
    fn number(&self, field: &str) -> (u32, bool) {
        let mut sizes = [0, 0];
        for shape in self.sites.iter().filter_map(|site| site.shape(field)) {
            if let How::Number { size, signed, .. } = shape.how {
                let widest = &mut sizes[usize::from(signed)];
                *widest = size.max(*widest);
            }
        }
        match sizes {
            [unsigned, 0] => (unsigned, false),
            [0, signed] => (signed, true),
            [unsigned, signed] => ((unsigned * 2).max(signed).min(8), true),
        }
    }

    fn is_user_text(&self, field: &str) -> bool {
        let mut shapes = self.sites.iter().filter_map(|site| site.shape(field));
        shapes.any(|shape| {
            matches!(
                shape.how,
                How::Number {
                    is_user_text: true,
                    ..
                }
            )
        })
    }

    fn number_statement(&mut self, of: &str, shape: Option<&FieldShape>) -> String {
        let Some(shape) = shape else {
            return "\treturn 0;\n".to_owned();
        };
        let How::Number {
            word,
            size,
            signed,
            is_loadable,
            ..
        } = shape.how
        else {
            return format!("\t{}\n", self.refusal());
        };
        let flavour = self.flavour(of, shape);
        let index = shape
            .index
            .map(|index| format!("[{index}]"))
            .unwrap_or_default();
        let member = format!("{}{index}", shape.member);
        // The value's own size and sign; the sign is the format file's.
        let mut casts = vec![integer(size, signed), integer(word, signed)];
        casts.dedup();
        let cast =
            |types: &[&str]| -> String { types.iter().map(|ty| format!("({ty})")).collect() };
        // Loaders refuse a load of another size, even if it is not reached.
        if is_loadable && !self.is_of_several_types(of, shape) {
            // The barrier keeps loads of different members apart: see `refusal`.
            return format!(
                "\t{} value = {}((const struct {flavour} *)ctx)->{member};\n\n\
                 \tbarrier_var(value);\n\
                 \treturn value;\n",
                integer(8, signed),
                cast(&casts)
            );
        }
        let word = integer(word, signed);
        let cast = cast(&casts[..casts.len() - 1]);
        format!(
            "\t{word} word = 0;\n\n\
             \tbpf_probe_read_kernel(&word, sizeof(word), ctx + bpf_core_field_offset(struct {flavour}, {member}));\n\
             \treturn {cast}word;\n",
        )
    }

    /// Whether kernels have the shape's member with different types.
    fn is_of_several_types(&self, of: &str, shape: &FieldShape) -> bool {
        let sites = self.sites.iter().filter(|site| site.struct_name == of);
        let mut shapes = sites
            .flat_map(|site| &site.fields)
            .filter_map(|(_, shape)| shape.as_ref());
        shapes.any(|other| other.member == shape.member && other.member_type != shape.member_type)
    }

    fn copy_statement(&mut self, of: &str, shape: Option<&FieldShape>, gives: Gives) -> String {
        let Some(shape) = shape else {
            return "\treturn -2; /* -ENOENT */\n".to_owned();
        };
        if Gives::of(shape.how) != Some(gives) {
            return format!("\t{}\n", self.refusal());
        }
        let flavour = self.flavour(of, shape);
        let member = &shape.member;
        let offset = format!("bpf_core_field_offset(struct {flavour}, {member})");
        let length = format!("bpf_core_field_size(struct {flavour}, {member})");
        match shape.how {
            How::Located { relative, is_text } => {
                // Counted from the record's start, or from the end of the location.
                let from = match relative {
                    true => format!("{offset} + 4 + (at & 0xffff)"),
                    false => "(at & 0xffff)".to_owned(),
                };
                let read = format!(
                    "\tunsigned int at = 0;\n\n\
                     \tbpf_probe_read_kernel(&at, sizeof(at), ctx + {offset});\n"
                );
                match is_text {
                    true => format!(
                        "{read}\treturn bpf_probe_read_kernel_str(to, size, ctx + {from});\n"
                    ),
                    false => format!("{read}{}", clamped("at >> 16", &format!("ctx + {from}"))),
                }
            }
            How::Text => format!(
                "\tunsigned int length = {length};\n\n\
                 \treturn bpf_probe_read_kernel_str(to, size < length ? size : length, ctx + {offset});\n"
            ),
            _ => clamped(&length, &format!("ctx + {offset}")),
        }
    }
}

/// Returns code that copies `length` bytes, at most `size`, and returns their number.
fn clamped(length: &str, from: &str) -> String {
    format!(
        "\tunsigned int length = {length};\n\n\
         \tif (length > size)\n\t\tlength = size;\n\
         \tif (bpf_probe_read_kernel(to, length, {from}))\n\t\treturn -14; /* -EFAULT */\n\
         \treturn length;\n"
    )
}

fn size_of(ty: &MemberType) -> u32 {
    match ty {
        MemberType::Int { size, .. }
        | MemberType::Enum { size, .. }
        | MemberType::Record { size } => *size,
        MemberType::Pointer => 8,
        MemberType::Array { element, count } => size_of(element).saturating_mul(*count),
        MemberType::Other => 0,
    }
}

fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| match line {
        "" => "\n".to_owned(),
        line => format!("\t{line}\n"),
    });
    lines.collect()
}

impl Flavour {
    pub(super) fn text(&self) -> String {
        let mut text = format!("struct {} {{\n", self.name);
        for (member, ty) in &self.members {
            let _ = writeln!(text, "\t{};", declare(ty, member, &self.name));
        }
        text + "} __attribute__((preserve_access_index));\n"
    }
}

fn declare(ty: &MemberType, declarator: &str, flavour: &str) -> String {
    match ty {
        MemberType::Int {
            size: 1,
            signed: true,
        } => format!("char {declarator}"),
        MemberType::Int { size, signed } => format!("{} {declarator}", integer(*size, *signed)),
        MemberType::Enum { name, size } => {
            let mode = match size {
                1 => " __attribute__((mode(QI)))",
                2 => " __attribute__((mode(HI)))",
                8 => " __attribute__((mode(DI)))",
                _ => "",
            };
            // Loaders compare names only up to three underscores.
            let (_, number) = flavour.rsplit_once("___").unwrap_or_default();
            let member = declarator.split('[').next().unwrap_or_default();
            let tag = match name {
                Some(name) => format!("{name}___{number}_{member} "),
                None => String::new(),
            };
            format!("enum {tag}{{ {flavour}_{member} }}{mode} {declarator}")
        }
        MemberType::Pointer => format!("void *{declarator}"),
        MemberType::Record { size } => {
            format!("struct {{\n\t\tunsigned char bytes[{size}];\n\t}} {declarator}")
        }
        MemberType::Array { element, count } => {
            declare(element, &format!("{declarator}[{count}]"), flavour)
        }
        MemberType::Other => format!("char {declarator}[0]"),
    }
}
