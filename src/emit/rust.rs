//! Structs in Rust, for eBPF programs and userspace alike.

use std::collections::HashMap;
use std::fmt::{self, Write};

use super::Emitted;
use crate::error::Error;
use crate::kernel::Tracepoint;
use crate::layout::ctype::CType;
use crate::layout::{Layout, Slot};

/// A Rust module: the context structs of tracepoints and the structs they contain, each
/// once, `#[repr(C)]`, with compile-time assertions on every offset and size. It needs
/// only `core`, and no `bindgen`.
///
/// Enums, `bool`s and addresses, which may have any bits, are integers. Gaps are members,
/// so that every byte has a name. A member that Rust would align differently is an array
/// of bytes.
///
/// ```
/// use tracepoints::Kernel;
/// use tracepoints::emit::RustModule;
///
/// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
/// let mut module = RustModule::new();
/// module.add(&kernel.tracepoint("sched:sched_process_free")?)?;
/// assert!(module.to_string().contains("\
/// pub struct trace_event_raw_sched_process_template {
///     pub ent: trace_entry,
///     /// `u32`
///     pub __data_loc_comm: DataLoc,
///     /// `pid_t`
///     pub pid: i32,
///     pub prio: i32,
///     pub __data: [u8; 0],
/// }
/// "));
/// # Ok::<(), tracepoints::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct RustModule {
    text: String,
    /// Each struct's name and definition.
    known: HashMap<String, String>,
    uses: Locations,
}

#[derive(Clone, Copy, Debug, Default)]
struct Locations {
    data_loc: bool,
    rel_loc: bool,
}

/// Returns the type of a dynamic field, which locates its bytes, counted from `origin`.
fn location(name: &str, origin: &str) -> String {
    format!(
        "
/// Where in the context a dynamic field's bytes are.
#[repr(transparent)]
#[derive(Clone, Copy)]
#[allow(dead_code)]
pub struct {name}(pub u32);

#[allow(dead_code)]
impl {name} {{
    /// From {origin}, in bytes.
    pub const fn offset(self) -> usize {{
        (self.0 & 0xffff) as usize
    }}

    /// In bytes, a string's NUL included.
    pub const fn len(self) -> usize {{
        (self.0 >> 16) as usize
    }}

    /// Whether there are no bytes.
    pub const fn is_empty(self) -> bool {{
        self.len() == 0
    }}
}}
"
    )
}

impl RustModule {
    /// Creates an empty module.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the text as a module of this name, `pub mod name { … }`. The text alone has
    /// only items, without attributes of the file it is in, so that it can be included
    /// (`include!`).
    pub fn to_mod(&self, name: &str) -> String {
        let lines = self.to_string();
        let lines = lines.lines().map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("    {line}\n"),
        });
        let body: String = lines.collect();
        let name = identifier(name);
        format!("pub mod {name} {{\n{}}}\n", body.trim_start_matches('\n'))
    }

    /// Adds the context struct of a tracepoint, and the structs it contains.
    ///
    /// Returns the struct's name: the kernel's if the context has one, otherwise
    /// `<event>_context`.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the module already has another type of the same name, in
    /// which case it is left as it was; and those of [`Tracepoint::context`].
    pub fn add(&mut self, tracepoint: &Tracepoint) -> Result<String, Error> {
        let emitted = Emitted::of(tracepoint)?;
        let mut draft = Draft {
            known: &self.known,
            new: Vec::new(),
            uses: self.uses,
        };
        let remark = emitted.remark.as_deref();
        let defined = draft.define(&emitted.struct_name, &emitted.layout, remark);
        defined.map_err(|Conflict(of)| Error::Conflict {
            name: tracepoint.name().clone(),
            of: format!("struct {of}"),
        })?;
        let Draft { new, uses, .. } = draft;
        for (name, text) in new {
            self.text += &text;
            self.known.insert(name, text);
        }
        self.uses = uses;
        Ok(emitted.struct_name)
    }
}

impl fmt::Display for RustModule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.uses.data_loc {
            out.write_str(&location("DataLoc", "the start of the context"))?;
        }
        if self.uses.rel_loc {
            out.write_str(&location("RelLoc", "the end of this value"))?;
        }
        out.write_str(&self.text)
    }
}

struct Conflict(String);

/// The additions for one tracepoint, until they are known to be valid.
struct Draft<'a> {
    known: &'a HashMap<String, String>,
    new: Vec<(String, String)>,
    uses: Locations,
}

impl Draft<'_> {
    fn define(
        &mut self,
        name: &str,
        layout: &Layout,
        remark: Option<&str>,
    ) -> Result<(), Conflict> {
        let text = self.text(name, layout, remark)?;
        let new = self
            .new
            .iter()
            .find(|(new, _)| new == name)
            .map(|(_, text)| text);
        match self.known.get(name).or(new) {
            None => self.new.push((name.to_owned(), text)),
            Some(known) if *known == text => {}
            Some(_) => return Err(Conflict(name.to_owned())),
        }
        Ok(())
    }

    fn text(
        &mut self,
        name: &str,
        layout: &Layout,
        remark: Option<&str>,
    ) -> Result<String, Conflict> {
        let mut fields = Vec::new();
        let mut at = 0;
        // Rust's padding must not make the struct longer than the kernel's.
        let largest_align = match layout.size() {
            0 => 16,
            size => 1 << size.trailing_zeros().min(4),
        };
        let mut slots = layout.slots().iter().peekable();
        while let Some(slot) = slots.next() {
            if layout.is_union() {
                let ty = self.rust_type(name, slot, largest_align)?;
                fields.push(MemberLine::of(slot, ty));
                continue;
            }
            if slot.offset() > at {
                fields.push(MemberLine::gap(at, slot.offset()));
            }
            if slot.width().is_some() {
                // Bitfields that share bytes are one array of bytes.
                let start = slot.offset();
                let mut end = slot.end();
                let mut names = vec![slot.name()];
                while let Some(next) =
                    slots.next_if(|next| next.width().is_some() && next.offset() <= end)
                {
                    end = end.max(next.end());
                    names.push(next.name());
                }
                fields.push(MemberLine {
                    comment: Some(format!("Bitfields {}.", names.join(", "))),
                    name: format!("bits_{start}"),
                    ty: format!("[u8; {}]", end - start),
                    place: Some((start, end - start)),
                });
                at = end;
                continue;
            }
            let ty = self.rust_type(name, slot, largest_align)?;
            fields.push(MemberLine::of(slot, ty));
            at = slot.end();
        }
        if !layout.is_union() && at < layout.size() {
            fields.push(MemberLine::gap(at, layout.size()));
        }
        let keyword = if layout.is_union() { "union" } else { "struct" };
        let mut text = String::from("\n");
        if let Some(remark) = remark {
            text += &format!("/// {remark}.\n");
        }
        text += &format!(
            "#[repr(C)]\n#[derive(Clone, Copy)]\n\
             #[allow(dead_code, non_camel_case_types, non_snake_case)]\n\
             pub {keyword} {name} {{\n"
        );
        for MemberLine {
            comment, name, ty, ..
        } in &fields
        {
            if let Some(comment) = comment {
                text += &format!("    /// {comment}\n");
            }
            let visible = if name.starts_with("_pad") { "" } else { "pub " };
            text += &format!("    {visible}{name}: {ty},\n");
        }
        text += "}\n\nconst _: () = {\n";
        text += &format!(
            "    assert!(core::mem::size_of::<{name}>() == {});\n",
            layout.size()
        );
        for line in &fields {
            if let Some((offset, size)) = line.place {
                let field = &line.name;
                // Writing to a `String` is infallible.
                let _ = writeln!(
                    text,
                    "    assert!(core::mem::offset_of!({name}, {field}) == {offset});"
                );
                let _ = writeln!(
                    text,
                    "    assert!(core::mem::size_of::<{}>() == {size});",
                    line.ty
                );
            }
        }
        text += "};\n";
        Ok(text)
    }

    /// Returns the Rust type of a member of `outer`; bytes if Rust would put another type
    /// elsewhere.
    fn rust_type(
        &mut self,
        outer: &str,
        slot: &Slot,
        largest_align: u32,
    ) -> Result<String, Conflict> {
        let align = slot.align();
        if !slot.offset().is_multiple_of(align) || align > largest_align {
            return Ok(format!("[u8; {}]", slot.size()));
        }
        if slot.name().starts_with("__data_loc_") && slot.size() == 4 {
            self.uses.data_loc = true;
            return Ok("DataLoc".to_owned());
        }
        if slot.name().starts_with("__rel_loc_") && slot.size() == 4 {
            self.uses.rel_loc = true;
            return Ok("RelLoc".to_owned());
        }
        self.value_type(outer, slot, slot.ty.resolved())
    }

    fn value_type(&mut self, outer: &str, slot: &Slot, ty: &CType) -> Result<String, Conflict> {
        let size = ty.size();
        Ok(match ty {
            CType::Int {
                signed: true,
                size: 1 | 2 | 4 | 8 | 16,
                ..
            }
            | CType::Enum {
                signed: true,
                size: 1 | 2 | 4 | 8,
                ..
            }
            | CType::Spelled {
                signed: true,
                size: 1 | 2 | 4 | 8,
                ..
            } => {
                // A char is a byte of text.
                match matches!(ty, CType::Int { name, .. } if name == "char") {
                    true => "u8".to_owned(),
                    false => format!("i{}", 8 * size),
                }
            }
            CType::Int {
                size: 1 | 2 | 4 | 8 | 16,
                ..
            }
            | CType::Enum {
                size: 1 | 2 | 4 | 8,
                ..
            }
            | CType::Spelled {
                size: 1 | 2 | 4 | 8,
                ..
            }
            | CType::Pointer { .. } => format!("u{}", 8 * size),
            CType::Float { size: 4 | 8, .. } => format!("f{}", 8 * size),
            CType::Array { element, count } => {
                let element = self.value_type(outer, slot, element.resolved())?;
                format!("[{element}; {count}]")
            }
            CType::Record {
                name,
                body: Some(body),
                ..
            } => {
                let name = match name {
                    Some(name) => identifier(name),
                    None => format!("{outer}_{}", plain_name(slot)),
                };
                self.define(&name, body, None)?;
                name
            }
            _ => format!("[u8; {size}]"),
        })
    }
}

/// One member of a struct.
struct MemberLine {
    comment: Option<String>,
    name: String,
    ty: String,
    /// Offset and size in bytes, if they are asserted.
    place: Option<(u32, u32)>,
}

impl MemberLine {
    fn of(slot: &Slot, ty: String) -> Self {
        // The C type, if the Rust type does not show it.
        let told = matches!(
            (slot.c_type(), &*ty),
            ("int", "i32")
                | ("unsigned int", "u32")
                | ("u8" | "__u8" | "unsigned char" | "char", "u8")
                | ("u16" | "__u16" | "short unsigned int", "u16")
                | ("u32" | "__u32", "u32")
                | ("u64" | "__u64" | "long unsigned int", "u64")
                | ("long int" | "s64", "i64")
        ) || slot.c_type() == format!("struct {ty}")
            || slot.c_type() == "char[0]"
            || slot.c_type().starts_with("char[") && ty.starts_with("[u8;");
        Self {
            comment: (!told).then(|| format!("`{}`", slot.c_type())),
            name: field_name(slot),
            ty,
            place: Some((slot.offset(), slot.size())),
        }
    }

    fn gap(from: u32, to: u32) -> Self {
        Self {
            comment: None,
            name: format!("_pad{from}"),
            ty: format!("[u8; {}]", to - from),
            place: None,
        }
    }
}

/// Returns the member's name as an identifier in Rust.
fn field_name(slot: &Slot) -> String {
    identifier(&plain_name(slot))
}

/// Returns the member's name, or a generated one.
fn plain_name(slot: &Slot) -> String {
    match slot.name() {
        "" => format!("anonymous_{}", slot.offset()),
        name => name.to_owned(),
    }
}

/// Returns a name in C as an identifier in Rust.
pub(super) fn identifier(name: &str) -> String {
    match name {
        // These cannot be raw identifiers.
        "self" | "Self" | "super" | "crate" | "_" => format!("{name}_"),
        name if is_keyword(name) => format!("r#{name}"),
        name => name.to_owned(),
    }
}

/// Whether a name is a keyword in Rust, edition 2024, reserved ones included.
fn is_keyword(name: &str) -> bool {
    matches!(
        name,
        "as" | "async"
            | "await"
            | "break"
            | "const"
            | "continue"
            | "dyn"
            | "else"
            | "enum"
            | "extern"
            | "false"
            | "fn"
            | "for"
            | "gen"
            | "if"
            | "impl"
            | "in"
            | "let"
            | "loop"
            | "match"
            | "mod"
            | "move"
            | "mut"
            | "pub"
            | "ref"
            | "return"
            | "static"
            | "struct"
            | "trait"
            | "true"
            | "type"
            | "unsafe"
            | "use"
            | "where"
            | "while"
            | "abstract"
            | "become"
            | "box"
            | "do"
            | "final"
            | "macro"
            | "override"
            | "priv"
            | "try"
            | "typeof"
            | "unsized"
            | "virtual"
            | "yield"
    )
}
