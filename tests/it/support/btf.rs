//! Writes BTF objects.
#![allow(dead_code, reason = "each test file uses its own part")]

/// A BTF object that is being written. Types get ids in the order in which they are
/// added.
pub(crate) struct BtfWriter {
    big_endian: bool,
    types: Vec<u8>,
    strings: Vec<u8>,
    next_id: u32,
    /// The offset of the first string, which in a module's object is not 0.
    first_name: u32,
    /// The layout section, if there is one.
    layout: Option<Vec<u8>>,
}

/// For each kind from 0 on, the bytes behind every type and for each element.
pub(crate) const LAYOUT: [(u8, u8); 20] = [
    (0, 0),
    (4, 0),
    (0, 0),
    (12, 0),
    (0, 12),
    (0, 12),
    (0, 8),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 0),
    (0, 8),
    (4, 0),
    (0, 12),
    (0, 0),
    (4, 0),
    (0, 0),
    (0, 12),
];

/// `struct trace_entry`, with which every context begins, and its members' types.
#[derive(Clone, Copy)]
pub(crate) struct TraceEntry {
    pub(crate) id: u32,
    pub(crate) int: u32,
    pub(crate) short: u32,
    /// `unsigned char`.
    pub(crate) byte: u32,
}

/// A struct member: its name, type and offset in bytes.
pub(crate) type Member<'a> = (&'a str, u32, u32);

impl BtfWriter {
    pub(crate) fn new(big_endian: bool) -> Self {
        Self {
            big_endian,
            types: Vec::new(),
            strings: vec![0],
            next_id: 1,
            first_name: 0,
            layout: None,
        }
    }

    /// A module's object, whose ids and string offsets continue those of `base`.
    pub(crate) fn split(base: &Self) -> Self {
        Self {
            big_endian: base.big_endian,
            types: Vec::new(),
            strings: Vec::new(),
            next_id: base.next_id,
            first_name: base.first_name + base.strings.len() as u32,
            layout: None,
        }
    }

    /// Adds a layout section: that of the kinds there are, and `more` behind them.
    pub(crate) fn layout(&mut self, more: &[(u8, u8)]) -> &mut Self {
        let entries = LAYOUT.iter().chain(more);
        let bytes = entries.flat_map(|(fixed, each)| [*fixed, *each, 0, 0]);
        self.layout = Some(bytes.collect());
        self
    }

    /// A type of any kind, with what follows it.
    pub(crate) fn other(&mut self, name: &str, info: u32, size_or_type: u32, tail: &[u32]) -> u32 {
        let name = self.string(name);
        self.words(&[name, info, size_or_type]);
        self.words(tail);
        self.next_id += 1;
        self.next_id - 1
    }

    pub(crate) fn int(&mut self, name: &str, size: u32, signed: bool) -> u32 {
        let id = self.add(name, 1, 0, size);
        self.words(&[(u32::from(signed) << 24) | (size * 8)]);
        id
    }

    pub(crate) fn pointer(&mut self, to: u32) -> u32 {
        self.add("", 2, 0, to)
    }

    pub(crate) fn array(&mut self, of: u32, length: u32) -> u32 {
        let id = self.add("", 3, 0, 0);
        self.words(&[of, of, length]);
        id
    }

    pub(crate) fn structure(&mut self, name: &str, size: u32, members: &[Member<'_>]) -> u32 {
        let id = self.add(name, 4, members.len(), size);
        for (name, ty, offset) in members {
            let name = self.string(name);
            self.words(&[name, *ty, offset * 8]);
        }
        id
    }

    /// A struct of bitfields: each has a name, a type, an offset and a width in bits.
    pub(crate) fn bitfields(
        &mut self,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32, u32)],
    ) -> u32 {
        let id = self.add(name, 4 | 0x80, members.len(), size);
        for (name, ty, offset, width) in members {
            let name = self.string(name);
            self.words(&[name, *ty, width << 24 | offset]);
        }
        id
    }

    pub(crate) fn enumeration64(&mut self, name: &str) -> u32 {
        self.add(name, 19, 0, 8)
    }

    pub(crate) fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) -> u32 {
        let id = self.add(name, 6, values.len(), 4);
        for (name, value) in values {
            let name = self.string(name);
            self.words(&[name, *value]);
        }
        id
    }

    pub(crate) fn typedef(&mut self, name: &str, of: u32) -> u32 {
        self.add(name, 8, 0, of)
    }

    /// A struct or union that is only declared.
    pub(crate) fn forward(&mut self, name: &str, is_union: bool) -> u32 {
        self.add(name, 7 | (u32::from(is_union) << 7), 0, 0)
    }

    pub(crate) fn constant(&mut self, of: u32) -> u32 {
        self.add("", 10, 0, of)
    }

    pub(crate) fn volatile(&mut self, of: u32) -> u32 {
        self.add("", 9, 0, of)
    }

    pub(crate) fn type_tag(&mut self, name: &str, of: u32) -> u32 {
        self.add(name, 18, 0, of)
    }

    pub(crate) fn prototype(&mut self, parameters: &[u32]) -> u32 {
        self.prototype_returning(0, parameters)
    }

    /// A last parameter of type 0 is `...`.
    pub(crate) fn prototype_returning(&mut self, result: u32, parameters: &[u32]) -> u32 {
        let id = self.add("", 13, parameters.len(), result);
        for parameter in parameters {
            self.words(&[0, *parameter]);
        }
        id
    }

    pub(crate) fn named_prototype(&mut self, parameters: &[(&str, u32)]) -> u32 {
        let id = self.add("", 13, parameters.len(), 0);
        for (name, parameter) in parameters {
            let name = self.string(name);
            self.words(&[name, *parameter]);
        }
        id
    }

    pub(crate) fn function(&mut self, name: &str, prototype: u32) -> u32 {
        self.add(name, 12, 0, prototype)
    }

    /// An empty struct whose name has the string offset of the first type's.
    pub(crate) fn same_name(&mut self, first_type: u32) {
        assert_eq!(first_type, 1, "the first type's name is the first string");
        self.words(&[1, 4 << 24, 8]);
        self.next_id += 1;
    }

    /// `struct trace_entry` of 8 bytes, or of 12 with `preempt_lazy_count`.
    pub(crate) fn trace_entry(&mut self, size: u32) -> TraceEntry {
        let int = self.int("int", 4, true);
        let short = self.int("short unsigned int", 2, false);
        let byte = self.int("unsigned char", 1, false);
        let members = [
            ("type", short, 0),
            ("flags", byte, 2),
            ("preempt_count", byte, 3),
            ("pid", int, 4),
            ("preempt_lazy_count", byte, 8),
        ];
        let count = if size == 8 { 4 } else { 5 };
        let id = self.structure("trace_entry", size, &members[..count]);
        TraceEntry {
            id,
            int,
            short,
            byte,
        }
    }

    /// The types that `DECLARE_EVENT_CLASS` leaves in BTF: the struct and the function.
    pub(crate) fn event_class(
        &mut self,
        class: &str,
        size: u32,
        members: &[Member<'_>],
        parameters: &[u32],
    ) -> u32 {
        let prototype = self.prototype(parameters);
        self.function(&format!("__bpf_trace_{class}"), prototype);
        self.structure(&format!("trace_event_raw_{class}"), size, members)
    }

    /// The types that `DEFINE_EVENT` leaves in BTF: the typedef.
    pub(crate) fn event(&mut self, event: &str, parameters: &[u32]) {
        let prototype = self.prototype(parameters);
        let pointer = self.pointer(prototype);
        self.typedef(&format!("btf_trace_{event}"), pointer);
    }

    /// The object's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut header = Self::new(self.big_endian);
        let magic: u16 = 0xeb9f;
        header.types.extend(match self.big_endian {
            true => magic.to_be_bytes(),
            false => magic.to_le_bytes(),
        });
        header.types.extend([1, 0]);
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        match &self.layout {
            None => {
                header.words(&[24, 0, types, types, strings]);
                [&*header.types, &*self.types, &*self.strings].concat()
            }
            // As libbpf writes it: the layout before the strings.
            Some(layout) => {
                let length = layout.len() as u32;
                header.words(&[32, 0, types, types + length, strings, types, length]);
                [&*header.types, &*self.types, layout, &*self.strings].concat()
            }
        }
    }

    fn add(&mut self, name: &str, kind: u32, vlen: usize, size_or_type: u32) -> u32 {
        let name = self.string(name);
        self.words(&[name, (kind << 24) | vlen as u32, size_or_type]);
        self.next_id += 1;
        self.next_id - 1
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32 + self.first_name;
        self.strings.extend(text.bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.types.extend(match self.big_endian {
                true => word.to_be_bytes(),
                false => word.to_le_bytes(),
            });
        }
    }
}
