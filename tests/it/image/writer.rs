//! Writes the memory of kernels and their modules: the tables that `trace_events.c` reads.
//!
//! The structs are not laid out as any kernel's, so that a reader that knows a layout
//! beforehand reads nonsense.

use object::write::{Object, Relocation, StandardSegment, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope,
};

use crate::support::btf::BtfWriter;

/// Where the image is linked.
pub(crate) const BASE: u64 = 0xffff_8000_8000_0000;

/// The memory of a kernel, or of a section of a module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) bytes: Vec<u8>,
    /// Names and offsets.
    pub(crate) symbols: Vec<(String, u64)>,
    /// Places that hold the address of another place.
    pub(crate) pointers: Vec<(u64, u64)>,
}

/// A field of an event: type, name, size, align, whether it is signed, array length.
pub(crate) type Field<'a> = (&'a str, &'a str, u32, u32, bool, u32);

/// Sizes of the structs that [`types`] describes.
const CALL: usize = 56;
const CLASS: usize = 40;
const FIELD: usize = 48;

impl Memory {
    pub(crate) fn align(&mut self, to: usize) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
        self.bytes.len() as u64
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.align(8);
        self.bytes.extend_from_slice(bytes);
        at
    }

    pub(crate) fn text(&mut self, text: &str) -> u64 {
        let at = self.put(text.as_bytes());
        self.bytes.push(0);
        at
    }

    pub(crate) fn symbol(&mut self, name: &str, at: u64) -> u64 {
        self.symbols.push((name.to_owned(), at));
        at
    }

    pub(crate) fn function(&mut self, name: &str) -> u64 {
        let at = self.put(&[0xc3; 16]);
        self.symbol(name, at)
    }

    fn set(&mut self, at: u64, bytes: &[u8]) {
        self.bytes[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn point(&mut self, at: u64, to: u64) {
        self.pointers.push((at, to));
    }

    /// An array of pointers.
    pub(crate) fn array(&mut self, to: &[u64]) -> u64 {
        let at = self.put(&vec![0; 8 * to.len()]);
        for (index, to) in to.iter().enumerate() {
            self.point(at + 8 * index as u64, *to);
        }
        at
    }

    /// `struct trace_event_fields[]`, ended by an empty one.
    pub(crate) fn fields(&mut self, fields: &[Field<'_>]) -> u64 {
        let texts: Vec<[u64; 2]> = fields
            .iter()
            .map(|(ty, name, ..)| [self.text(ty), self.text(name)])
            .collect();
        let at = self.put(&vec![0; FIELD * (fields.len() + 1)]);
        for (index, (_, _, size, align, is_signed, length)) in fields.iter().enumerate() {
            let field = at + (FIELD * index) as u64;
            let [ty, name] = texts[index];
            self.point(field + 8, ty);
            self.point(field + 16, name);
            self.set(field + 24, &size.to_le_bytes());
            self.set(field + 28, &align.to_le_bytes());
            // Two bits before it, and one behind.
            self.set(field + 32, &[if *is_signed { 0b0100 } else { 0b1011 }]);
            self.set(field + 36, &length.to_le_bytes());
        }
        at
    }

    /// `struct trace_event_class` and its functions; the system's name is shared.
    pub(crate) fn class(&mut self, name: &str, system: u64, fields: u64) -> u64 {
        let probe = self.function(&format!("trace_event_raw_event_{name}"));
        let register = self.function(&format!("register_{name}"));
        let at = self.put(&[0; CLASS]);
        self.point(at + 8, system);
        self.point(at + 16, fields);
        self.point(at + 24, probe);
        self.point(at + 32, register);
        self.symbol(&format!("event_class_{name}"), at)
    }

    /// `struct trace_event_call` of a tracepoint's event.
    pub(crate) fn event(&mut self, name: &str, class: u64, print_fmt: &str) -> u64 {
        let name_at = self.text(name);
        let tracepoint = self.put(&[0; 32]);
        self.point(tracepoint + 16, name_at);
        self.symbol(&format!("__tracepoint_{name}"), tracepoint);
        self.call(name, tracepoint, class, print_fmt, 0x20)
    }

    /// `struct trace_event_call`, with a name or a tracepoint, and flags.
    pub(crate) fn call(
        &mut self,
        name: &str,
        name_or_tracepoint: u64,
        class: u64,
        print_fmt: &str,
        flags: u32,
    ) -> u64 {
        let print_fmt = self.text(print_fmt);
        let at = self.put(&[0; CALL]);
        self.point(at + 8, class);
        self.point(at + 16, name_or_tracepoint);
        self.point(at + 24, print_fmt);
        self.set(at + 32, &flags.to_le_bytes());
        self.symbol(&format!("event_{name}"), at)
    }

    /// `struct trace_eval_map`.
    pub(crate) fn eval(&mut self, system: u64, name: &str, value: u64) -> u64 {
        let name = self.text(name);
        let at = self.put(&[0; 24]);
        self.set(at, &value.to_le_bytes());
        self.point(at + 8, name);
        self.point(at + 16, system);
        at
    }

    /// The kernel's bytes, with all pointers in place.
    pub(crate) fn linked(&self) -> Vec<u8> {
        let mut linked = self.clone();
        for (at, to) in &self.pointers {
            linked.set(*at, &(BASE + to).to_le_bytes());
        }
        linked.bytes
    }
}

/// The BTF that describes these structs, with the classes of [`kernel`].
pub(crate) fn types() -> BtfWriter {
    let mut btf = BtfWriter::new(false);
    let entry = btf.trace_entry(8);
    let char_type = btf.int("char", 1, true);
    let long = btf.int("long unsigned int", 8, false);
    let text = btf.pointer(char_type);
    let int = entry.int;
    let either = btf.structure("", 8, &[("name", text, 0), ("tp", text, 0)]);
    btf.structure(
        "trace_event_call",
        CALL as u32,
        &[
            ("list", long, 0),
            ("class", text, 8),
            ("", either, 16),
            ("print_fmt", text, 24),
            ("flags", int, 32),
            ("data", text, 40),
        ],
    );
    btf.structure(
        "trace_event_class",
        CLASS as u32,
        &[
            ("system", text, 8),
            ("fields_array", text, 16),
            ("probe", text, 24),
            ("reg", text, 32),
        ],
    );
    let inner = btf.bitfields(
        "",
        32,
        &[
            ("name", text, 0, 0),
            ("size", int, 64, 0),
            ("align", int, 96, 0),
            ("is_signed", int, 130, 1),
            ("len", int, 160, 0),
        ],
    );
    btf.structure(
        "trace_event_fields",
        FIELD as u32,
        &[("type", text, 8), ("", inner, 16)],
    );
    let key = ("key", int, 24);
    btf.structure("tracepoint", 32, &[("name", text, 16), key]);
    btf.structure(
        "trace_eval_map",
        24,
        &[
            ("eval_value", long, 0),
            ("eval_string", text, 8),
            ("system", text, 16),
        ],
    );
    btf.structure(
        "syscall_metadata",
        48,
        &[
            ("nb_args", int, 0),
            ("name", text, 8),
            ("types", text, 16),
            ("args", text, 24),
            ("enter_event", text, 32),
        ],
    );
    let arguments = btf.array(long, 0);
    btf.structure(
        "syscall_trace_enter",
        16,
        &[
            ("ent", entry.id, 0),
            ("nr", int, 8),
            ("args", arguments, 16),
        ],
    );
    btf.structure(
        "bpf_raw_event_map",
        32,
        &[("bpf_func", text, 8), ("tp", text, 16)],
    );
    btf.enumeration(
        "",
        &[
            ("TRACE_EVENT_FL_IGNORE_ENABLE", 2),
            ("TRACE_EVENT_FL_TRACEPOINT", 0x20),
        ],
    );
    let members = [("code", int, 0), ("target", int, 4), ("key", long, 8)];
    btf.structure("jump_entry", 16, &members);
    let pointers = btf.pointer(text);
    btf.structure("module", 8, &[("tracepoints_ptrs", pointers, 0)]);
    two_classes(&mut btf, entry.id, int, long);
    btf
}

/// Two classes that BTF alone cannot tell apart.
fn two_classes(btf: &mut BtfWriter, entry: u32, int: u32, long: u32) {
    for class in ["shape_a", "shape_b"] {
        let members = [("ent", entry, 0), ("x", int, 8)];
        btf.event_class(class, 12, &members, &[long]);
    }
    for event in ["first", "second"] {
        btf.event(event, &[long]);
    }
}

/// A kernel with five events and a system call.
pub(crate) fn kernel() -> Memory {
    let mut memory = Memory::default();
    // The header of arm64's Image, which begins the memory.
    memory.bytes.resize(64, 0);
    memory.set_header();
    memory.symbol("_text", 0);
    memory.put(b"Linux version %s (%s)\n");
    memory.put(b"Linux version 6.12.34-test (me@here) #1 SMP\n\0");
    let system = memory.text("shapes");
    // Another text of the same content is another system.
    let other = memory.text("shapes");
    let fields = memory.fields(&[("int", "x", 4, 4, true, 0)]);
    let shape_a = memory.class("shape_a", system, fields);
    let shape_b = memory.class("shape_b", system, fields);
    let first = memory.event("first", shape_b, "\"%d\", REC->x");
    let second = memory.event("second", shape_a, "\"%d\", REC->x");
    let fields = memory.fields(&[
        ("char[NAME_LENGTH]", "comm", 16, 1, true, 16),
        ("__data_loc char[]", "text", 4, 4, true, 0),
        ("u64", "wide", 8, 8, false, 0),
        ("u8[sizeof(struct x)]", "bytes", 3, 1, false, 3),
    ]);
    let class = memory.class("mixed", system, fields);
    let print_fmt = "\"MODE_A %s\\\"\", REC->MODE_A ? 12MODE_A : MODE_A, MODE_AB, \
                     { MODE_A, \"MODE_A\" }, sizeof(struct x)";
    let mixed = memory.event("mixed", class, print_fmt);
    // An event of ftrace's own: no tracepoint, and not listed.
    let ftrace = memory.text("ftrace");
    let fields = memory.fields(&[("unsigned long", "ip", 8, 8, false, 0)]);
    let class = memory.class("print", ftrace, fields);
    let name = memory.text("print");
    let print = memory.call("print", name, class, "\"%ps\", (void *)REC->ip", 2);
    let mut events = vec![first, second, mixed, print];
    events.extend(syscalls(&mut memory));
    let table = memory.array(&events);
    memory.symbol("__start_ftrace_events", table);
    let end = memory.align(8);
    memory.symbol("__stop_ftrace_events", end);
    let evals = [
        memory.eval(system, "MODE_A", 7),
        memory.eval(system, "NAME_LENGTH", 16),
        memory.eval(system, "sizeof(struct x)", 3),
        memory.eval(other, "MODE_AB", 8),
    ];
    let table = memory.array(&evals);
    memory.symbol("__start_ftrace_eval_maps", table);
    let end = memory.align(8);
    memory.symbol("__stop_ftrace_eval_maps", end);
    memory.function("update_event_fields");
    raw_map(&mut memory, &[("first", "shape_b"), ("second", "shape_a")]);
    let btf = types().bytes();
    let at = memory.put(&btf);
    memory.symbol("__start_BTF", at);
    memory.symbol("__stop_BTF", at + btf.len() as u64);
    for filler in 0..700 {
        memory.function(&format!("filler_{filler}"));
    }
    memory
}

impl Memory {
    fn set_header(&mut self) {
        self.set(0x38, b"ARM\x64");
    }
}

/// `__bpf_raw_tp_map`.
fn raw_map(memory: &mut Memory, classes: &[(&str, &str)]) {
    let maps: Vec<[u64; 2]> = classes
        .iter()
        .map(|(event, class)| {
            let name = format!("__tracepoint_{event}");
            let tracepoint = memory.symbols.iter().find(|(known, _)| *known == name);
            let tracepoint = tracepoint.expect("the tracepoint").1;
            [memory.function(&format!("__bpf_trace_{class}")), tracepoint]
        })
        .collect();
    let start = memory.put(&vec![0; 32 * maps.len()]);
    memory.symbol("__start__bpf_raw_tp", start);
    for (index, [function, tracepoint]) in maps.into_iter().enumerate() {
        let at = start + 32 * index as u64;
        memory.point(at + 8, function);
        memory.point(at + 16, tracepoint);
    }
    let end = memory.align(8);
    memory.symbol("__stop__bpf_raw_tp", end);
}

/// The events of `read`, and of a call that no number has.
fn syscalls(memory: &mut Memory) -> Vec<u64> {
    let system = memory.text("syscalls");
    let number = ("int", "__syscall_nr", 4, 4, true, 0);
    let enter = memory.fields(&[number, ("", "", 0, 0, false, 0)]);
    // Its type is not a text: a function defines the fields.
    memory.pointers.retain(|(at, _)| *at != enter + 48 + 8);
    memory.set(enter + 48 + 8, &u64::MAX.to_le_bytes());
    let exit = memory.fields(&[number, ("long", "ret", 8, 8, true, 0)]);
    let classes = [
        memory.class("syscall_enter", system, enter),
        memory.class("syscall_exit", system, exit),
    ];
    let mut events = Vec::new();
    let mut functions = Vec::new();
    for (name, is_called) in [("read", true), ("forgotten", false)] {
        let texts = ["unsigned int", "char *"].map(|text| memory.text(text));
        let types = memory.array(&texts);
        let texts = ["fd", "buf"].map(|text| memory.text(text));
        let arguments = memory.array(&texts);
        let call = memory.text(&format!("sys_{name}"));
        let metadata = memory.put(&[0; 48]);
        memory.set(metadata, &[2]);
        memory.point(metadata + 8, call);
        memory.point(metadata + 16, types);
        memory.point(metadata + 24, arguments);
        for (side, class) in ["enter", "exit"].iter().zip(classes) {
            let name = format!("sys_{side}_{name}");
            let text = memory.text(&name);
            let event = memory.call(&name, text, class, "", 4);
            memory.point(event + 40, metadata);
            if *side == "enter" {
                memory.point(metadata + 32, event);
            }
            events.push(event);
        }
        if is_called {
            functions.push(memory.function(&format!("__arm64_sys_{name}")));
        }
    }
    let table = memory.array(&functions);
    memory.symbol("sys_call_table", table);
    events
}

/// A module of one event, whose pointers are relocations.
pub(crate) fn module(name: &str, event: &str, class: &str) -> Vec<u8> {
    module_for(None, name, event, class)
}

/// The same, which states the release of its kernel.
pub(crate) fn module_for(release: Option<&str>, name: &str, event: &str, class: &str) -> Vec<u8> {
    let mut memory = Memory::default();
    let system = memory.text("modular");
    let fields = memory.fields(&[("u32[N_CORES]", "cores", 8, 4, false, 2)]);
    let class = memory.class(class, system, fields);
    let call = memory.event(event, class, "\"%u\", REC->cores[N_CORES - 1]");
    let eval = memory.eval(system, "N_CORES", 2);
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let mut add = |section: &str, content: &[u8]| {
        let segment = object.segment_name(StandardSegment::Data).to_vec();
        let id = object.add_section(segment, section.as_bytes().to_vec(), SectionKind::Data);
        object.append_section_data(id, content, 8);
        id
    };
    let data = add(".data", &memory.bytes);
    let events = add("_ftrace_events", &[0; 8]);
    let evals = add("_ftrace_eval_map", &[0; 8]);
    let mut modinfo = format!("license=GPL\0name={name}\0");
    if let Some(release) = release {
        modinfo += &format!("vermagic={release} SMP mod_unload \0");
    }
    add(".modinfo", modinfo.as_bytes());
    for (name, at) in &memory.symbols {
        object.add_symbol(Symbol {
            name: name.clone().into_bytes(),
            value: *at,
            size: 0,
            kind: SymbolKind::Data,
            scope: SymbolScope::Compilation,
            weak: false,
            section: SymbolSection::Section(data),
            flags: SymbolFlags::None,
        });
    }
    let target = object.section_symbol(data);
    let pointers = memory.pointers.iter().map(|(at, to)| (data, *at, *to));
    for (section, offset, to) in pointers.chain([(events, 0, call), (evals, 0, eval)]) {
        let relocation = Relocation {
            offset,
            symbol: target,
            addend: to as i64,
            // R_X86_64_64.
            flags: RelocationFlags::Elf { r_type: 1 },
        };
        object
            .add_relocation(section, relocation)
            .expect("a relocation");
    }
    object.write().expect("an ELF file")
}
