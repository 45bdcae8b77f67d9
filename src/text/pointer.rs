//! `%p` and its extensions (`Documentation/core-api/printk-formats.rst`).

use std::net::Ipv6Addr;

use super::addresses::Addresses;
use super::number::{self, PrintfSpec, write};
use super::output::Output;
use crate::format::print::eval::CValue;
use crate::machine::{ByteOrder, Machine};

/// Prints a pointer as its extension says. If the pointee is not in the record, prints
/// the address.
pub(super) fn pointer(
    out: &mut Output,
    extension: &str,
    layout: PrintfSpec,
    value: CValue<'_>,
    machine: Machine,
    addresses: &Addresses,
) {
    let data = match value {
        CValue::Bytes { data, .. } => Some(data),
        _ => None,
    };
    let address = match value {
        CValue::Integer { bits, .. } => bits,
        _ => 0,
    };
    let (kind, options) = extension.split_at_checked(1).unwrap_or_default();
    match (kind, data) {
        ("S" | "B" | "F", None) => symbol(out, address, true, addresses),
        ("s" | "f", None) => symbol(out, address, false, addresses),
        ("x", None) => hex_address(out, address, machine, ""),
        ("I" | "i", Some(data)) => ip(out, kind, options, data, machine),
        ("M" | "m", Some(data)) => mac(out, kind, options, data),
        ("U", Some(data)) => uuid(out, options, data),
        ("h", Some(data)) => hex_string(out, options, data, layout.width),
        ("b", Some(data)) => match options.starts_with('l') {
            true => bit_list(out, data, layout.width, machine),
            false => bits(out, data, layout.width, machine),
        },
        // An address, or the start of a resource, by reference.
        ("a", Some(data)) => {
            let size = data.len().min(8);
            let layout = PrintfSpec {
                alternate: true,
                zero: true,
                width: 2 + 2 * size,
                ..PrintfSpec::default()
            };
            number::number(out, layout, false, machine.unsigned(data), 16, false);
        }
        ("e", None) => {
            let error = (address as i64).wrapping_neg();
            match error {
                1..=4095 => write(out, format_args!("-{error}")),
                _ => hex_address(out, address, machine, "0x"),
            }
        }
        // The kernel prints a hash, which has no meaning here; `0x` marks a true
        // address.
        (_, None) => match address {
            0 => hex_address(out, 0, machine, ""),
            address => hex_address(out, address, machine, "0x"),
        },
        (_, Some(_)) => out.push_str("<in the record>"),
    }
}

fn hex_address(out: &mut Output, address: u64, machine: Machine, prefix: &str) {
    out.push_str(prefix);
    let layout = PrintfSpec {
        zero: true,
        width: 2 * machine.long_size() as usize,
        ..PrintfSpec::default()
    };
    number::number(out, layout, false, address, 16, false);
}

/// Prints `name+0x1/0x20 [module]`, or without the offset; the address if it has no
/// name.
pub(super) fn symbol(out: &mut Output, address: u64, with_offset: bool, addresses: &Addresses) {
    let Some(symbol) = addresses.symbol(address) else {
        return write(out, format_args!("{address:#x}"));
    };
    match with_offset {
        true => symbol.write_with_offset(out),
        false => out.push_str(symbol.name),
    }
    if let Some(module) = symbol.module {
        write(out, format_args!(" [{module}]"));
    }
}

fn ip(out: &mut Output, kind: &str, options: &str, data: &[u8], machine: Machine) {
    let (version, options) = options.split_at_checked(1).unwrap_or_default();
    match version {
        "4" => match data.first_chunk() {
            Some(data) => ipv4(out, kind, options, *data, machine),
            None => short(out),
        },
        "6" => match data.first_chunk() {
            Some(data) => ipv6(out, kind, options, *data),
            None => short(out),
        },
        "S" => socket_address(out, kind, options, data, machine),
        _ => short(out),
    }
}

fn short(out: &mut Output) {
    out.push_str("<too short>");
}

fn ipv4(out: &mut Output, kind: &str, options: &str, mut data: [u8; 4], machine: Machine) {
    // Network order is the default.
    let reversed = match options.chars().next() {
        Some('l') => true,
        Some('h') => machine.byte_order() == ByteOrder::Little,
        _ => false,
    };
    if reversed {
        data.reverse();
    }
    for (index, byte) in data.into_iter().enumerate() {
        out.push_str(if index > 0 { "." } else { "" });
        match kind {
            "i" => write(out, format_args!("{byte:03}")),
            _ => write(out, format_args!("{byte}")),
        }
    }
}

fn ipv6(out: &mut Output, kind: &str, options: &str, data: [u8; 16]) {
    let words: Vec<u16> = data
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
        .collect();
    if kind == "I" && options.starts_with('c') {
        return compressed(out, data, &words);
    }
    for (index, word) in words.iter().enumerate() {
        let colon = if index > 0 && kind == "I" { ":" } else { "" };
        write(out, format_args!("{colon}{word:04x}"));
    }
}

/// Writes the address as `ip6_compressed_string()` does: it omits the first longest run
/// of more than one zero, and writes IPv4 in dots if it is mapped or ISATAP.
fn compressed(out: &mut Output, data: [u8; 16], words: &[u16]) {
    let is_mapped = Ipv6Addr::from(data).to_ipv4_mapped().is_some();
    let is_isatap = words[4] | 0x0200 == 0x0200 && words[5] == 0x5efe;
    let uses_ipv4 = is_mapped || is_isatap;
    let range = if uses_ipv4 { 6 } else { 8 };
    let (mut start, mut longest) = (None, 1);
    for at in 0..range {
        let run = words[at..range]
            .iter()
            .take_while(|word| **word == 0)
            .count();
        if run > longest {
            (start, longest) = (Some(at), run);
        }
    }
    let mut needs_colon = false;
    let mut at = 0;
    while at < range {
        if Some(at) == start {
            out.push_str(if needs_colon || at == 0 { ":" } else { "" });
            out.push(':');
            needs_colon = false;
            at += longest;
            continue;
        }
        out.push_str(if needs_colon { ":" } else { "" });
        write(out, format_args!("{:x}", words[at]));
        needs_colon = true;
        at += 1;
    }
    if uses_ipv4 {
        out.push_str(if needs_colon { ":" } else { "" });
        write(
            out,
            format_args!("{}.{}.{}.{}", data[12], data[13], data[14], data[15]),
        );
    }
}

/// Prints a `struct sockaddr` by its family.
fn socket_address(out: &mut Output, kind: &str, options: &str, data: &[u8], machine: Machine) {
    const AF_INET: u64 = 2;
    const AF_INET6: u64 = 10;
    let family = machine.unsigned(data.get(..2).unwrap_or_default());
    let port = data
        .get(2..4)
        .map(|port| u16::from_be_bytes([port[0], port[1]]));
    let has = |option| options.contains(option);
    match family {
        AF_INET => {
            let address = data.get(4..).and_then(|rest| rest.first_chunk());
            let Some(address) = address else {
                return short(out);
            };
            ipv4(out, kind, "", *address, machine);
            if let (true, Some(port)) = (has('p'), port) {
                write(out, format_args!(":{port}"));
            }
        }
        AF_INET6 => {
            let address = data.get(8..).and_then(|rest| rest.first_chunk());
            let Some(address) = address else {
                return short(out);
            };
            let in_brackets = has('p') || has('f') || has('s');
            out.push_str(if in_brackets { "[" } else { "" });
            ipv6(out, kind, if has('c') { "c" } else { "" }, *address);
            out.push_str(if in_brackets { "]" } else { "" });
            if let (true, Some(port)) = (has('p'), port) {
                write(out, format_args!(":{port}"));
            }
            let number = |range: std::ops::Range<usize>| {
                data.get(range).map(|bytes| machine.unsigned(bytes))
            };
            let flow = data
                .get(4..8)
                .map(|flow| u32::from_be_bytes([flow[0], flow[1], flow[2], flow[3]]));
            if let (true, Some(flow)) = (has('f'), flow) {
                write(out, format_args!("/{}", flow & 0x000f_ffff));
            }
            if let (true, Some(scope)) = (has('s'), number(24..28)) {
                write(out, format_args!("%{scope}"));
            }
        }
        // The kernel's text for families it does not know.
        _ => out.push_str("(einval)"),
    }
}

fn mac(out: &mut Output, kind: &str, options: &str, data: &[u8]) {
    let Some(mut data) = data.first_chunk::<6>().copied() else {
        return short(out);
    };
    if options.starts_with('R') {
        data.reverse();
    }
    let separator = match (kind, options.chars().next()) {
        ("m", _) => "",
        (_, Some('F')) => "-",
        _ => ":",
    };
    for (index, byte) in data.into_iter().enumerate() {
        out.push_str(if index > 0 { separator } else { "" });
        write(out, format_args!("{byte:02x}"));
    }
}

fn uuid(out: &mut Output, options: &str, data: &[u8]) {
    let Some(data) = data.first_chunk::<16>() else {
        return short(out);
    };
    const BIG: [usize; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    const LITTLE: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let (order, upper) = match options.chars().next() {
        Some('L') => (LITTLE, true),
        Some('l') => (LITTLE, false),
        Some('B') => (BIG, true),
        _ => (BIG, false),
    };
    for (index, at) in order.into_iter().enumerate() {
        out.push_str(if matches!(index, 4 | 6 | 8 | 10) {
            "-"
        } else {
            ""
        });
        match upper {
            true => write(out, format_args!("{:02X}", data[at])),
            false => write(out, format_args!("{:02x}", data[at])),
        }
    }
}

/// Prints `%*ph`: as many bytes in hexadecimal as the width says, at most 64.
fn hex_string(out: &mut Output, options: &str, data: &[u8], width: usize) {
    let separator = match options.chars().next() {
        Some('C') => ":",
        Some('D') => "-",
        Some('N') => "",
        _ => " ",
    };
    let count = if width == 0 { 1 } else { width.min(64) };
    for (index, byte) in data.iter().take(count).enumerate() {
        out.push_str(if index > 0 { separator } else { "" });
        write(out, format_args!("{byte:02x}"));
    }
}

/// Whether a bit of a bitmap, an array of `long`, is set.
fn is_set(data: &[u8], bit: usize, machine: Machine) -> bool {
    let size = machine.long_size() as usize;
    let (word, within) = (bit / (8 * size), bit % (8 * size));
    let bytes = data.chunks(size).nth(word).unwrap_or_default();
    machine.unsigned(bytes) >> within & 1 == 1
}

/// Prints `%*pb`: words of 32 bits in hexadecimal, the highest first.
pub(super) fn bits(out: &mut Output, data: &[u8], count: usize, machine: Machine) {
    let count = count.min(8 * data.len());
    let mut words = count.div_ceil(32);
    let mut width = (count % 32).div_ceil(4);
    if width == 0 {
        width = 8;
    }
    let mut comma = "";
    while words > 0 {
        words -= 1;
        let range = 32 * words..count.min(32 * words + 32);
        let word = range
            .filter(|bit| is_set(data, *bit, machine))
            .fold(0_u32, |word, bit| word | 1 << (bit % 32));
        write(out, format_args!("{comma}{word:0width$x}"));
        comma = ",";
        width = 8;
    }
}

/// Prints `%*pbl`: the numbers of the set bits, runs as `first-last`.
fn bit_list(out: &mut Output, data: &[u8], count: usize, machine: Machine) {
    let count = count.min(8 * data.len());
    let mut comma = "";
    let mut bit = 0;
    while bit < count {
        if !is_set(data, bit, machine) {
            bit += 1;
            continue;
        }
        let end = (bit..count)
            .find(|bit| !is_set(data, *bit, machine))
            .unwrap_or(count);
        match end - bit {
            1 => write(out, format_args!("{comma}{bit}")),
            _ => write(out, format_args!("{comma}{bit}-{}", end - 1)),
        }
        comma = ",";
        bit = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LITTLE: Machine = Machine::new(ByteOrder::Little, true);

    fn shown(extension: &str, width: usize, data: &[u8]) -> String {
        let mut out = Output::default();
        let value = CValue::Bytes {
            data,
            element: 1,
            signed: false,
        };
        let layout = PrintfSpec {
            width,
            ..PrintfSpec::default()
        };
        pointer(
            &mut out,
            extension,
            layout,
            value,
            LITTLE,
            &Addresses::new(),
        );
        out.to_string()
    }

    #[test]
    fn data_in_the_record() {
        let v6 = "2001:db8::1:0:0:1"
            .parse::<Ipv6Addr>()
            .expect("an address")
            .octets();
        assert_eq!(shown("I4", 0, &[127, 0, 0, 1]), "127.0.0.1");
        assert_eq!(shown("I4h", 0, &[127, 0, 0, 1]), "1.0.0.127");
        assert_eq!(shown("i4", 0, &[127, 0, 0, 1]), "127.000.000.001");
        assert_eq!(
            shown("I6", 0, &v6),
            "2001:0db8:0000:0000:0001:0000:0000:0001"
        );
        assert_eq!(shown("i6", 0, &v6), "20010db8000000000001000000000001");
        assert_eq!(shown("I6c", 0, &v6), "2001:db8::1:0:0:1");
        assert_eq!(shown("I6c", 0, &[0; 16]), "::");
        let mapped = "::ffff:1.2.3.4"
            .parse::<Ipv6Addr>()
            .expect("an address")
            .octets();
        assert_eq!(shown("I6c", 0, &mapped), "::ffff:1.2.3.4");
        let mut v4_socket = vec![2, 0, 0x1f, 0x90, 10, 0, 0, 7];
        v4_socket.resize(28, 0);
        assert_eq!(shown("ISpc", 0, &v4_socket), "10.0.0.7:8080");
        let mut v6_socket = vec![10, 0, 0x1f, 0x90, 0, 0, 0, 0];
        v6_socket.extend(v6);
        v6_socket.extend([2, 0, 0, 0]);
        assert_eq!(
            shown("ISpsfc", 0, &v6_socket),
            "[2001:db8::1:0:0:1]:8080/0%2"
        );
        assert_eq!(shown("ISc", 0, &v6_socket), "2001:db8::1:0:0:1");
        assert_eq!(shown("ISpc", 0, &[0; 28]), "(einval)");
        assert_eq!(shown("M", 0, &[1, 2, 3, 4, 5, 0xaf]), "01:02:03:04:05:af");
        assert_eq!(shown("mR", 0, &[1, 2, 3, 4, 5, 0xaf]), "af0504030201");
        let uuid: Vec<u8> = (0..16).collect();
        assert_eq!(shown("U", 0, &uuid), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(
            shown("UL", 0, &uuid),
            "03020100-0504-0706-0809-0A0B0C0D0E0F"
        );
        assert_eq!(shown("hD", 3, &uuid), "00-01-02");
        assert_eq!(shown("ad", 0, &[0x10, 0, 0, 0]), "0x00000010");
        assert_eq!(shown("bl", 16, &[0b1110_0101, 0x80]), "0,2,5-7,15");
        assert_eq!(shown("b", 40, &[1, 0, 0, 0, 0x12]), "12,00000001");
        assert_eq!(shown("I4", 0, &[1]), "<too short>");
    }

    #[test]
    fn addresses_and_symbols() {
        let kallsyms = "\
ffffffff81000000 T start
ffffffff81000100 t twin
ffffffff81000100 t other
ffffffff81000200 T _etext
ffffffffc0000000 t inside\t[module]
ffffffffc0000040 t end\t[module]
0000000000000000 t hidden
";
        let addresses = Addresses::new().with_kallsyms(kallsyms);
        let shown = |extension: &str, address: u64| {
            let mut out = Output::default();
            let value = CValue::Integer {
                bits: address,
                size: 8,
                signed: false,
            };
            pointer(
                &mut out,
                extension,
                PrintfSpec::default(),
                value,
                LITTLE,
                &addresses,
            );
            out.to_string()
        };
        assert_eq!(shown("S", 0xffff_ffff_8100_0010), "start+0x10/0x100");
        assert_eq!(shown("s", 0xffff_ffff_8100_0101), "twin");
        assert_eq!(
            shown("S", 0xffff_ffff_c000_0001),
            "inside+0x1/0x40 [module]"
        );
        assert_eq!(shown("S", 16), "0x10");
        assert_eq!(shown("x", 0xffff_8880_0000_0000), "ffff888000000000");
        assert_eq!(shown("", 0xffff_8880_0000_0000), "0xffff888000000000");
        assert_eq!(shown("", 0), "0000000000000000");
    }
}
