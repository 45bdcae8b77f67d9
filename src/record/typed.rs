//! Structs in the memory of a process, by their types.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::layout::shape::{MemberShape, StringList, ValueShape};
use crate::machine::{Machine, sign_extended, until_nul};

/// A struct, a union, an array of such or a list of strings in the memory of a process, read by
/// its type: see [`Value::Typed`](super::Value::Typed).
///
/// A probe on an event `syscalls:sys_enter_*` has it of a field `*NAME`, where `NAME` is an argument
/// that points at one (`ProbeBuilder::fields`). It is read when the kernel does: what the
/// kernel reads, at entry or, if it cannot be read there, at exit; what it writes (`*statbuf` of
/// `newfstatat`), at exit, if the call has written it. `*NAME@entry` and `*NAME@exit` are what is
/// there at that moment, which has to be said where a call may read and write (`*tsp@entry` of
/// `ppoll`).
///
/// ```no_run
/// use tracepoints::probe::{FieldValue, Probe};
/// use tracepoints::{Kernel, Value};
///
/// let kernel = Kernel::live()?;
/// let connect = kernel.tracepoint("syscalls:sys_enter_connect")?;
/// let mut probe = Probe::builder([&connect]).fields(["*uservaddr"]).attach()?;
/// probe.wait(None)?;
/// for record in probe.records() {
///     if let Some(FieldValue::Whole(Value::Typed(address))) = record.field("*uservaddr") {
///         println!("{address}, port {:?}", address.integer("port"));
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`Display`](fmt::Display) writes `{tv_sec=1, tv_nsec=500}`, strings in quotes, addresses and
/// bytes in hexadecimal. It serializes as an object; an address in it is a text (`"0x7ffd…"`),
/// since many readers of JSON keep 53 bits of a number. All members of a union are there, each
/// read from the same bytes; members of anonymous structs are the outer struct's. A member that
/// is not whole in what was read is left out.
///
/// A list of strings (`*argv` and `*envp` of `execve`) is an array of at most 32, of eight times
/// [`ProbeBuilder::data_limit`] bytes together: `["ls", "-l"]`. One that cannot be read is null in
/// JSON, `<Bad address (os error 14)>` in text; so is what follows where the list itself cannot
/// be read on. In text `…` follows a string that is cut, and stands for those that are left out;
/// the value is a [`FieldValue::Cut`] then.
///
/// [`ProbeBuilder::data_limit`]: crate::probe::ProbeBuilder::data_limit
/// [`FieldValue::Cut`]: crate::probe::FieldValue::Cut
///
/// An array whose length the call says or returns (`*vec` of `writev`, `*events` of `epoll_wait`)
/// has as many elements as there are, of at most [`ProbeBuilder::data_limit`] bytes together:
/// `[{iov_base=0x7ffd…, iov_len=5}]`. The bytes behind `iov_base` are not read.
///
/// An address of a socket (`struct sockaddr`) has the members of its family: `family` and, for
/// `AF_INET`, `port` and `addr`; for `AF_INET6`, `flowinfo` and `scope_id`, too; for `AF_UNIX`,
/// `path` or, of an abstract one, `abstract`; for `AF_NETLINK`, `pid` and `groups`; for any other,
/// `data`, its bytes. Ports are in the machine's byte order: 443.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TypedValue<'a> {
    shape: &'a ValueShape,
    bytes: &'a [u8],
}

/// A part of a value that has a text of its own.
enum TypedPart<'a> {
    Unsigned(u64),
    Signed(i64),
    Pointer(u64),
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    /// The name of an address family.
    Name(&'static str),
    Inet(Ipv4Addr),
    Inet6(Ipv6Addr),
    /// A string whose end is missing.
    CutText(&'a [u8]),
    /// A string that could not be read: an error's number.
    Unreadable(i32),
    /// Strings that are left out: not there in JSON.
    More,
    Array(Vec<TypedPart<'a>>),
    Members(Vec<(&'a str, TypedPart<'a>)>),
}

impl<'a> TypedValue<'a> {
    /// Creates the value of this machine that has these bytes, which may be fewer than the
    /// shape's.
    pub(crate) fn new(shape: &'a ValueShape, bytes: &'a [u8]) -> Self {
        Self { shape, bytes }
    }

    /// Returns the bytes that were read.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the number of a member that is an integer or an address, `tv_sec` or, in a struct
    /// inside, `it_value.tv_sec`; of an element of an array, `0.iov_len`. `None` if there is no such
    /// member, or it was not read. An unsigned number above `i64::MAX` is negative.
    ///
    /// Of an address of a socket, `family`, `port`, `pid` and the like are numbers.
    pub fn integer(&self, member: &str) -> Option<i64> {
        let mut part = self.part()?;
        for name in member.split('.') {
            part = match part {
                TypedPart::Members(members) => {
                    let mut members = members.into_iter();
                    members.find_map(|(known, part)| (known == name).then_some(part))?
                }
                TypedPart::Array(elements) => elements.into_iter().nth(name.parse().ok()?)?,
                _ => return None,
            };
        }
        match part {
            TypedPart::Unsigned(value) | TypedPart::Pointer(value) => Some(value as i64),
            TypedPart::Signed(value) => Some(value),
            TypedPart::Name(_) => Some(i64::from(family_of(self.bytes)?)),
            _ => None,
        }
    }

    /// Iterates over the strings of a list (`*argv`), each without the NUL that ends it; `None` for
    /// one that could not be read. Nothing where it is not a list.
    pub fn strings(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let parts = match self.shape {
            ValueShape::Strings(list) => strings(*list, self.bytes),
            _ => Vec::new(),
        };
        parts.into_iter().filter_map(|part| match part {
            TypedPart::Text(text) | TypedPart::CutText(text) => Some(Some(text)),
            TypedPart::Unreadable(_) => Some(None),
            _ => None,
        })
    }

    /// Whether it is a list of strings.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.shape, ValueShape::Strings(_))
    }

    fn part(&self) -> Option<TypedPart<'a>> {
        part(self.shape, self.bytes)
    }
}

/// Returns `None` for a number that is not whole in the bytes.
fn part<'a>(shape: &'a ValueShape, bytes: &'a [u8]) -> Option<TypedPart<'a>> {
    let word = |size: u32| Some(Machine::NATIVE.unsigned(bytes.get(..size as usize)?));
    let cut = |size: u32| &bytes[..bytes.len().min(size as usize)];
    Some(match shape {
        ValueShape::Integer { size, signed, bits } => {
            let word = word(*size)?;
            match (bits, signed) {
                (Some(bits), true) => TypedPart::Signed(bits.of(word) as i64),
                (Some(bits), false) => TypedPart::Unsigned(bits.of(word)),
                (None, true) => TypedPart::Signed(sign_extended(word, *size)),
                (None, false) => TypedPart::Unsigned(word),
            }
        }
        ValueShape::Pointer { size } => TypedPart::Pointer(word(*size)?),
        ValueShape::Text { size } => TypedPart::Text(until_nul(cut(*size))),
        ValueShape::Bytes { size } => TypedPart::Bytes(cut(*size)),
        ValueShape::Array { element, count } => {
            let elements = bytes.chunks(element.size().max(1) as usize);
            let elements = elements.take(*count as usize);
            TypedPart::Array(elements.map_while(|bytes| part(element, bytes)).collect())
        }
        ValueShape::Record { members, .. } => {
            let of = |member: &'a MemberShape| {
                let end = member.offset.checked_add(member.shape.size())?;
                let bytes = bytes.get(member.offset as usize..end as usize)?;
                Some((member.name.as_str(), part(&member.shape, bytes)?))
            };
            TypedPart::Members(members.iter().filter_map(of).collect())
        }
        ValueShape::SocketAddress => TypedPart::Members(socket_address(bytes)),
        ValueShape::Strings(list) => TypedPart::Array(strings(*list, bytes)),
    })
}

/// The strings of a list, as far as its bytes go.
fn strings(list: StringList, bytes: &[u8]) -> Vec<TypedPart<'_>> {
    let word = |at: u32| Some(Machine::NATIVE.signed(bytes.get(at as usize..)?.get(..4)?) as i32);
    let mut rest = bytes.get(list.strings_at() as usize..).unwrap_or_default();
    let mut parts = Vec::new();
    for slot in 0..list.slots {
        let length = word(list.slot_at(slot));
        let Some(length) = length.filter(|length| *length != StringList::ABSENT) else {
            break;
        };
        let Ok(length) = usize::try_from(length) else {
            parts.push(TypedPart::Unreadable(length.saturating_neg()));
            continue;
        };
        let (text, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        parts.push(match length == list.longest as usize {
            true => TypedPart::CutText(until_nul(text)),
            false => TypedPart::Text(until_nul(text)),
        });
    }
    match word(0) {
        Some(StringList::ENDED) | None => {}
        Some(error @ ..0) => parts.push(TypedPart::Unreadable(error.saturating_neg())),
        Some(_) => parts.push(TypedPart::More),
    }
    parts
}

fn family_of(bytes: &[u8]) -> Option<u16> {
    let family = bytes.get(..2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(family))
}

// Of `include/linux/socket.h`.
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_NETLINK: u16 = 16;

/// The members of a `struct sockaddr`, as far as its bytes go (`struct sockaddr_in`,
/// `sockaddr_in6`, `sockaddr_un` and `sockaddr_nl` of `include/uapi/linux`).
fn socket_address(bytes: &[u8]) -> Vec<(&str, TypedPart<'_>)> {
    let Some(family) = family_of(bytes) else {
        return Vec::new();
    };
    let at = |from: usize, size: usize| bytes.get(from..from + size);
    let big_endian = |from: usize, size: usize| {
        let bytes = at(from, size)?;
        let number = bytes
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte));
        Some(TypedPart::Unsigned(number))
    };
    let native = |from: usize| Some(TypedPart::Unsigned(Machine::NATIVE.unsigned(at(from, 4)?)));
    let (name, members) = match family {
        AF_INET => {
            let addr = at(4, 4).and_then(|addr| <[u8; 4]>::try_from(addr).ok());
            let addr = addr.map(|addr| TypedPart::Inet(addr.into()));
            ("AF_INET", vec![("port", big_endian(2, 2)), ("addr", addr)])
        }
        AF_INET6 => {
            let addr = at(8, 16).and_then(|addr| <[u8; 16]>::try_from(addr).ok());
            let addr = addr.map(|addr| TypedPart::Inet6(addr.into()));
            let members = vec![
                ("port", big_endian(2, 2)),
                ("flowinfo", big_endian(4, 4)),
                ("addr", addr),
                ("scope_id", native(24)),
            ];
            ("AF_INET6", members)
        }
        AF_UNIX => {
            let members = match &bytes[2..] {
                [] => Vec::new(),
                // All of its bytes are the name, NULs included.
                [0, name @ ..] => vec![("abstract", Some(TypedPart::Text(name)))],
                path => vec![("path", Some(TypedPart::Text(until_nul(path))))],
            };
            ("AF_UNIX", members)
        }
        AF_NETLINK => (
            "AF_NETLINK",
            vec![("pid", native(4)), ("groups", native(8))],
        ),
        other => {
            let members = vec![("family", TypedPart::Unsigned(other.into()))];
            let data = Some(&bytes[2..]).filter(|data| !data.is_empty());
            let data = data.map(|data| ("data", TypedPart::Bytes(data)));
            return members.into_iter().chain(data).collect();
        }
    };
    let members = members.into_iter();
    let members = members.filter_map(|(name, part)| Some((name, part?)));
    [("family", TypedPart::Name(name))]
        .into_iter()
        .chain(members)
        .collect()
}

impl fmt::Display for TypedPart<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => value.fmt(out),
            Self::Signed(value) => value.fmt(out),
            Self::Pointer(value) => write!(out, "{value:#x}"),
            Self::Text(text) => write!(out, "\"{}\"", String::from_utf8_lossy(text).escape_debug()),
            Self::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")),
            Self::CutText(text) => write!(out, "{}…", TypedPart::Text(text)),
            Self::Unreadable(errno) => {
                write!(out, "<{}>", std::io::Error::from_raw_os_error(*errno))
            }
            Self::More => out.write_str("…"),
            Self::Name(name) => out.write_str(name),
            Self::Inet(addr) => addr.fmt(out),
            Self::Inet6(addr) => addr.fmt(out),
            Self::Array(elements) => {
                out.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(out, "{comma}{element}")?;
                }
                out.write_str("]")
            }
            Self::Members(members) => {
                out.write_str("{")?;
                for (index, (name, member)) in members.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(out, "{comma}{name}={member}")?;
                }
                out.write_str("}")
            }
        }
    }
}

impl Serialize for TypedPart<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Pointer(_) | Self::Inet(_) | Self::Inet6(_) => serializer.collect_str(self),
            Self::Text(text) | Self::CutText(text) => {
                serializer.serialize_str(&String::from_utf8_lossy(text))
            }
            Self::Unreadable(_) | Self::More => serializer.serialize_unit(),
            Self::Bytes(bytes) => serializer.collect_seq(*bytes),
            Self::Name(name) => serializer.serialize_str(name),
            Self::Array(elements) => {
                let mut list = serializer.serialize_seq(None)?;
                let is_there = |element: &&TypedPart<'_>| !matches!(element, TypedPart::More);
                for element in elements.iter().filter(is_there) {
                    list.serialize_element(element)?;
                }
                list.end()
            }
            Self::Members(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, member) in members {
                    map.serialize_entry(name, member)?;
                }
                map.end()
            }
        }
    }
}

impl fmt::Display for TypedValue<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.part().map_or(Ok(()), |part| part.fmt(out))
    }
}

impl fmt::Debug for TypedValue<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TypedValue({self})")
    }
}

impl Serialize for TypedValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.part().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(bytes: &[u8]) -> TypedValue<'_> {
        TypedValue::new(&ValueShape::SocketAddress, bytes)
    }

    /// An address that is cut has fewer members, and none that is not whole.
    #[test]
    fn addresses_cut_everywhere() {
        let mut bytes = [0; 28];
        bytes[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
        bytes[2..4].copy_from_slice(&443_u16.to_be_bytes());
        bytes[8..10].copy_from_slice(&[0xfe, 0x80]);
        bytes[23] = 7;
        bytes[24..].copy_from_slice(&3_u32.to_ne_bytes());
        let mut lines = String::new();
        let mut before = String::new();
        for length in 0..=bytes.len() {
            let text = address(&bytes[..length]).to_string();
            if text != before {
                lines += &format!("{length:2} {text}\n");
                before = text;
            }
        }
        insta::assert_snapshot!(lines, @r"
         0 {}
         2 {family=AF_INET6}
         4 {family=AF_INET6, port=443}
         8 {family=AF_INET6, port=443, flowinfo=0}
        24 {family=AF_INET6, port=443, flowinfo=0, addr=fe80::7}
        28 {family=AF_INET6, port=443, flowinfo=0, addr=fe80::7, scope_id=3}
        ");
    }

    #[test]
    fn members_by_their_kinds() {
        let int = |size, signed| ValueShape::Integer {
            size,
            signed,
            bits: None,
        };
        let member = |name: &str, offset, shape| MemberShape {
            name: name.to_owned(),
            offset,
            shape,
        };
        let inner = ValueShape::Record {
            size: 4,
            members: vec![
                member("low", 0, int(1, false)),
                member("all", 0, int(4, true)),
            ],
        };
        let shape = ValueShape::Record {
            size: 32,
            members: vec![
                member("u", 0, inner.clone()),
                member("p", 8, ValueShape::Pointer { size: 8 }),
                member("text", 16, ValueShape::Text { size: 6 }),
                member("raw", 22, ValueShape::Bytes { size: 2 }),
                member(
                    "list",
                    24,
                    ValueShape::Array {
                        element: Box::new(inner),
                        count: 2,
                    },
                ),
            ],
        };
        assert!(shape.is_sound());
        let mut bytes = vec![0xff; 4];
        bytes.extend([0; 4]);
        bytes.extend(0x7ffd_0000_1234_u64.to_ne_bytes());
        bytes.extend(b"a\"b\0xy\x01\xab");
        bytes.extend([1_i32.to_ne_bytes(), (-2_i32).to_ne_bytes()].concat());
        let value = TypedValue::new(&shape, &bytes);
        if cfg!(target_endian = "little") {
            insta::assert_snapshot!(value, @r#"{u={low=255, all=-1}, p=0x7ffd00001234, text="a\"b", raw=01ab, list=[{low=1, all=1}, {low=254, all=-2}]}"#);
        }
        assert_eq!(value.integer("u.all"), Some(-1));
        assert_eq!(value.integer("p"), Some(0x7ffd_0000_1234));
        for nothing in ["", "u", "u.", "x", "text", "list", "u.all.x"] {
            assert_eq!(value.integer(nothing), None, "{nothing}");
        }
        let json = serde_json::to_value(value).expect("JSON");
        assert_eq!(json["p"], "0x7ffd00001234");
        assert_eq!(json["raw"], serde_json::json!([1, 0xab]));
        assert_eq!(json["u"]["all"], -1);
    }

    fn any_shape() -> impl Strategy<Value = ValueShape> {
        let leaf = prop_oneof![
            (any::<u32>(), any::<bool>()).prop_map(|(size, signed)| ValueShape::Integer {
                size,
                signed,
                bits: None
            }),
            any::<u32>().prop_map(|size| ValueShape::Pointer { size }),
            any::<u32>().prop_map(|size| ValueShape::Text { size }),
            any::<u32>().prop_map(|size| ValueShape::Bytes { size }),
            Just(ValueShape::SocketAddress),
            (any::<u32>(), 0..9_u32).prop_map(|(slots, longest)| ValueShape::Strings(StringList {
                slots: slots % 8,
                longest,
            })),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                (inner.clone(), any::<u32>()).prop_map(|(element, count)| ValueShape::Array {
                    element: Box::new(element),
                    count
                }),
                prop::collection::vec((any::<u32>(), inner), 0..4).prop_map(|members| {
                    let members = members.into_iter().map(|(offset, shape)| MemberShape {
                        name: "m".to_owned(),
                        offset: offset % 64,
                        shape,
                    });
                    ValueShape::Record {
                        size: 64,
                        members: members.collect(),
                    }
                }),
            ]
        })
    }

    proptest! {
        /// No bytes and no shape make it panic, not even a shape that is not sound.
        #[test]
        fn any_shape_of_any_bytes(shape in any_shape(), bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let value = TypedValue::new(&shape, &bytes);
            let _ = value.to_string();
            let _ = serde_json::to_string(&value).expect("JSON");
            let _ = value.integer("m");
            let _ = value.strings().count();
        }
    }
}
