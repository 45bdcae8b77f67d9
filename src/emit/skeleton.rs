//! Whole programs, which read each field of a context in the way it requires.

use std::fmt::Write;

use super::names::identifier;
use super::{CHeader, COptions, Emitted, RustModule};
use crate::context::access::{Access, Read};
use crate::error::Error;
use crate::format::FieldKind;
use crate::kernel::Tracepoint;
use crate::layout::ctype::CType;
use crate::name::SYSCALL_NUMBER;

/// Limit on the bytes of a string or array that a program copies to its stack of 512 bytes.
const TEXT: u32 = 128;

/// Returns the fields in the context, and the names of those it lacks.
fn accesses<'a>(
    tracepoint: &'a Tracepoint,
    emitted: &Emitted,
) -> Result<(Vec<Access<'a>>, Vec<&'a str>), Error> {
    let mut accesses = Vec::new();
    let mut missing = Vec::new();
    for (field, access) in Access::of_fields(tracepoint.format(), &emitted.context)? {
        match access {
            Some(access) => accesses.push(access),
            None => missing.push(field.name()),
        }
    }
    Ok((accesses, missing))
}

/// Returns a program in C for libbpf: `SEC("tracepoint/…")`, the context struct with the
/// types it needs, and code that reads each field and prints it to the trace pipe.
///
/// It compiles with `clang -O2 -g -target bpf -c` and only libbpf's headers.
///
/// # Errors
///
/// Those of [`CHeader::add`].
///
/// ```
/// use tracepoints::{Kernel, emit};
///
/// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
/// let program = emit::skeleton_c(&kernel.tracepoint("sched:sched_process_exec")?)?;
/// assert!(program.contains("SEC(\"tracepoint/sched/sched_process_exec\")"));
/// assert!(program.contains("(void *)ctx + (ctx->__data_loc_filename & 0xffff)"));
/// # Ok::<(), tracepoints::Error>(())
/// ```
pub fn skeleton_c(tracepoint: &Tracepoint) -> Result<String, Error> {
    let emitted = Emitted::of(tracepoint)?;
    let mut header = CHeader::new(COptions::default().assertions(false));
    let struct_name = header.add(tracepoint)?;
    header.add_helper_types();
    let (accesses, missing) = accesses(tracepoint, &emitted)?;
    let name = tracepoint.name();
    let mut text = format!(
        "// {name}: {}.\n\
         {header}\n\
         #include <bpf/bpf_helpers.h>\n\n\
         char LICENSE[] SEC(\"license\") = \"GPL\";\n\n\
         SEC(\"{}\")\n\
         int on_{}(struct {struct_name} *ctx)\n{{\n",
        emitted.context.evidence(),
        name.section(),
        identifier(name.event()),
    );
    if accesses.iter().any(Access::needs_text) {
        text += &format!("\tchar text[{TEXT}];\n\n");
    }
    for field in missing {
        text += &format!("\t/* {field} is in the record only. */\n\n");
    }
    for access in &accesses {
        access.write_c(&mut text);
    }
    text += "\treturn 0;\n}\n";
    Ok(text)
}

/// Returns a program in Rust for aya: `#[tracepoint]`, the context struct with the
/// structs it contains, and code that reads each field.
///
/// It needs the crates `aya-ebpf` and `aya-log-ebpf`.
///
/// # Errors
///
/// Those of [`RustModule::add`].
pub fn skeleton_rust(tracepoint: &Tracepoint) -> Result<String, Error> {
    let emitted = Emitted::of(tracepoint)?;
    let mut module = RustModule::new();
    let struct_name = module.add(tracepoint)?;
    let (accesses, missing) = accesses(tracepoint, &emitted)?;
    let name = tracepoint.name();
    let function = identifier(name.event());
    let uses = |wanted: fn(&Access<'_>) -> bool| accesses.iter().any(wanted);
    let helpers: Vec<&str> = [
        (
            uses(|access| matches!(access.read, Read::Bytes | Read::Located { text: false, .. })),
            "bpf_probe_read_kernel_buf",
        ),
        (
            uses(|access| matches!(access.read, Read::Text | Read::Located { text: true, .. })),
            "bpf_probe_read_kernel_str_bytes",
        ),
        (
            uses(|access| matches!(access.read, Read::UserText)),
            "bpf_probe_read_user_str_bytes",
        ),
    ]
    .into_iter()
    .filter_map(|(used, helper)| used.then_some(helper))
    .collect();
    let mut text = format!(
        "// {name}: {}.\n#![no_std]\n#![no_main]\n\n",
        emitted.context.evidence()
    );
    if !helpers.is_empty() {
        text += &format!("use aya_ebpf::helpers::{};\n", braced(&helpers));
    }
    if accesses.iter().any(Access::reads_context) {
        text += "use aya_ebpf::EbpfContext as _;\n";
    }
    text += &format!(
        "use aya_ebpf::macros::tracepoint;\n\
         use aya_ebpf::programs::TracePointContext;\n\
         use aya_log_ebpf::info;\n\n\
         #[tracepoint(category = \"{category}\", name = \"{event}\")]\n\
         pub fn on_{function}(ctx: TracePointContext) -> u32 {{\n    \
             match read_{function}(&ctx) {{\n        \
                 Ok(()) => 0,\n        \
                 Err(_) => 1,\n    \
             }}\n}}\n\n\
         fn read_{function}(ctx: &TracePointContext) -> Result<(), i32> {{\n",
        category = name.category(),
        event = name.event(),
    );
    if accesses.iter().any(Access::needs_text) {
        text += &format!("    let mut text = [0u8; {TEXT}];\n");
    }
    if accesses.iter().any(Access::is_text) {
        text += "    // The log takes text as str, and copies its bytes whatever they are.\n";
    }
    if accesses.iter().any(Access::reads_context) {
        text += "    let start = ctx.as_ptr().cast::<u8>();\n";
    }
    for field in missing {
        text += &format!("    // {field} is in the record only.\n");
    }
    for access in &accesses {
        access.write_rust(&mut text, &struct_name);
    }
    text += "    Ok(())\n}\n";
    let panic = "\n#[cfg(not(test))]\n#[panic_handler]\nfn panic(_info: &core::panic::PanicInfo) -> ! {\n    loop {}\n}\n";
    text += panic;
    text += "\n";
    text += module.to_mod("context").trim_start_matches("pub ");
    Ok(text)
}

impl Access<'_> {
    fn needs_text(&self) -> bool {
        !matches!(self.read, Read::Load | Read::Probe)
    }

    /// Whether the field is the number of a system call, which is not always where the
    /// struct has it.
    fn is_number(&self) -> bool {
        self.field.name() == SYSCALL_NUMBER
    }

    /// Whether text is printed.
    fn is_text(&self) -> bool {
        matches!(
            self.read,
            Read::Text | Read::UserText | Read::Located { text: true, .. }
        )
    }

    /// Whether the context's address is needed, and not only values at offsets.
    fn reads_context(&self) -> bool {
        matches!(self.read, Read::Text | Read::Bytes | Read::Located { .. })
    }

    /// Whether the value is an address; a typedef may hide that it is.
    fn is_pointer(&self) -> bool {
        self.field.kind() == FieldKind::Pointer
            || matches!(self.slot.ty.resolved(), CType::Pointer { .. })
    }

    /// Returns how many bytes of an array are copied.
    fn copied(&self) -> u32 {
        self.slot.size().min(TEXT)
    }

    /// Returns the field's name as that of a variable.
    fn variable(&self) -> String {
        match self.field.name() {
            // Names that the program uses itself.
            name @ ("ctx" | "text" | "start") => format!("{name}_"),
            name => name.to_owned(),
        }
    }

    fn write_c(&self, text: &mut String) {
        let (field, slot) = (self.field, &self.slot);
        let name = field.name();
        let variable = self.variable();
        let member = slot.name();
        let offset = slot.offset();
        // Writing to a `String` is infallible.
        let mut line = |line: String| {
            let _ = writeln!(text, "\t{line}");
        };
        line(super::c::comment(field.declaration().text()));
        let print = |conversion: &str, value: &str| {
            format!("bpf_printk(\"{name}=%{conversion}\", {value});")
        };
        match self.read {
            Read::Load | Read::Probe => self.write_c_number(&mut line),
            Read::Text => {
                line(format!(
                    "bpf_probe_read_kernel_str(text, {}, ctx->{member});",
                    self.copied()
                ));
                line(print("s", "text"));
            }
            Read::Bytes => {
                line(format!(
                    "bpf_probe_read_kernel(text, {}, (void *)ctx + {offset});",
                    self.copied()
                ));
                line(print("x", "(unsigned char)text[0]"));
            }
            Read::Located {
                relative,
                text: is_text,
            } => {
                let from = match relative {
                    true => slot.end(),
                    false => 0,
                };
                let at = match from {
                    0 => format!("(void *)ctx + (ctx->{member} & 0xffff)"),
                    from => format!("(void *)ctx + {from} + (ctx->{member} & 0xffff)"),
                };
                if is_text {
                    line(format!(
                        "bpf_probe_read_kernel_str(text, sizeof(text), {at});"
                    ));
                    line(print("s", "text"));
                } else {
                    let length = format!("{name}_length");
                    line(format!("unsigned int {length} = ctx->{member} >> 16;"));
                    line(format!("if ({length} > sizeof(text))"));
                    line(format!("\t{length} = sizeof(text);"));
                    line(format!("bpf_probe_read_kernel(text, {length}, {at});"));
                    line(print("u bytes", &length));
                }
            }
            Read::UserText => {
                let pointer = match self.is_loadable {
                    true => format!("ctx->{member}"),
                    false => {
                        let word = integer(slot.size(), false);
                        line(format!("{word} {variable} = 0;"));
                        line(format!(
                            "bpf_probe_read_kernel(&{variable}, sizeof({variable}), (void *)ctx + {offset});"
                        ));
                        variable
                    }
                };
                line(format!(
                    "bpf_probe_read_user_str(text, sizeof(text), (void *)(unsigned long){pointer});"
                ));
                line(print("s", "text"));
            }
        }
        text.push('\n');
    }

    /// Reads and prints an integer or a pointer.
    fn write_c_number(&self, line: &mut dyn FnMut(String)) {
        let slot = &self.slot;
        let (name, member, offset) = (self.field.name(), slot.name(), slot.offset());
        let variable = self.variable();
        let word = integer(slot.size(), false);
        let c_type = integer(self.size, self.signed);
        let is_pointer = self.is_pointer();
        let from = match is_pointer {
            _ if self.is_number() => format!("*({word} *)((void *)ctx + {offset})"),
            true => format!("({c_type})ctx->{member}"),
            false => format!("ctx->{member}"),
        };
        if let Read::Load = self.read {
            line(format!("{c_type} {variable} = {from};"));
        } else {
            // The whole word is read: the value's place in it depends on the machine's
            // byte order.
            line(format!("{word} {variable}_word;"));
            line(format!(
                "bpf_probe_read_kernel(&{variable}_word, sizeof({variable}_word), (void *)ctx + {offset});"
            ));
            line(format!("{c_type} {variable} = {variable}_word;"));
        }
        let (conversion, promoted) = match (is_pointer, self.signed) {
            (true, _) => ("llx", "unsigned long long"),
            (false, true) => ("lld", "long long"),
            (false, false) => ("llu", "unsigned long long"),
        };
        line(format!(
            "bpf_printk(\"{name}=%{conversion}\", ({promoted}){variable});"
        ));
    }

    fn write_rust(&self, text: &mut String, struct_name: &str) {
        let (field, slot) = (self.field, &self.slot);
        let name = field.name();
        let variable = super::rust::identifier(&self.variable());
        let offset = slot.offset();
        let mut line = |line: String| {
            let _ = writeln!(text, "    {line}");
        };
        line(format!("// {}", field.declaration()));
        let info = |value: &str| format!("info!(ctx, \"{name}={{}}\", {value});");
        let text_info = |value: &str| {
            info(&format!(
                "unsafe {{ core::str::from_utf8_unchecked({value}) }}"
            ))
        };
        let in_struct = match slot.name().split_once('[') {
            _ if self.is_number() => offset.to_string(),
            Some((array, index)) => {
                let index = index.trim_end_matches(']');
                format!(
                    "core::mem::offset_of!(context::{struct_name}, {array}) + {index} * {}",
                    slot.size()
                )
            }
            None => format!(
                "core::mem::offset_of!(context::{struct_name}, {})",
                super::rust::identifier(slot.name())
            ),
        };
        match self.read {
            Read::Load | Read::Probe => {
                let sign = if self.signed { 'i' } else { 'u' };
                let ty = format!("{sign}{}", 8 * slot.size());
                line(format!(
                    "let {variable}: {ty} = unsafe {{ ctx.read_at({in_struct}) }}?;"
                ));
                if self.size != slot.size() {
                    line(format!(
                        "let {variable} = {variable} as {sign}{};",
                        8 * self.size
                    ));
                }
                line(info(&variable));
            }
            Read::Text => {
                line(format!(
                    "let {variable} = unsafe {{ bpf_probe_read_kernel_str_bytes(start.add({in_struct}), &mut text[..{}]) }}?;",
                    self.copied()
                ));
                line(text_info(&variable));
            }
            Read::Bytes => {
                line(format!(
                    "unsafe {{ bpf_probe_read_kernel_buf(start.add({in_struct}), &mut text[..{}]) }}?;",
                    self.copied()
                ));
                line(info("text[0]"));
            }
            Read::Located {
                relative,
                text: is_text,
            } => {
                let kind = if relative { "RelLoc" } else { "DataLoc" };
                line(format!(
                    "let {variable}: context::{kind} = unsafe {{ ctx.read_at({in_struct}) }}?;"
                ));
                let at = match relative {
                    true => format!("start.add({} + {variable}.offset())", slot.end()),
                    false => format!("start.add({variable}.offset())"),
                };
                if is_text {
                    line(format!(
                        "let {variable} = unsafe {{ bpf_probe_read_kernel_str_bytes({at}, &mut text) }}?;"
                    ));
                    line(text_info(&variable));
                } else {
                    line(format!("let length = {variable}.len().min(text.len());"));
                    line(format!(
                        "unsafe {{ bpf_probe_read_kernel_buf({at}, &mut text[..length]) }}?;"
                    ));
                    line(info("length"));
                }
            }
            Read::UserText => {
                line(format!(
                    "let {variable}: u{} = unsafe {{ ctx.read_at({in_struct}) }}?;",
                    8 * slot.size()
                ));
                line(format!(
                    "let {variable} = unsafe {{ bpf_probe_read_user_str_bytes({variable} as *const u8, &mut text) }}?;"
                ));
                line(text_info(&variable));
            }
        }
    }
}

/// Returns `a`, or `{a, b}`.
fn braced(names: &[&str]) -> String {
    match names {
        [one] => (*one).to_owned(),
        some => format!("{{{}}}", some.join(", ")),
    }
}

/// Returns the integer type of this many bytes in `linux/types.h`.
fn integer(size: u32, signed: bool) -> &'static str {
    match (size, signed) {
        (1, false) => "__u8",
        (1, true) => "__s8",
        (2, false) => "__u16",
        (2, true) => "__s16",
        (4, false) => "__u32",
        (4, true) => "__s32",
        (_, false) => "__u64",
        (_, true) => "__s64",
    }
}
