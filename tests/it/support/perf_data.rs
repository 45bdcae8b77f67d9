//! Writes `perf.data`: as a file, as a stream, and with compressed records.
#![allow(dead_code, reason = "each test file uses its own part")]

use super::trace_dat::DatFile;

pub(crate) const IP: u64 = 1 << 0;
pub(crate) const TID: u64 = 1 << 1;
pub(crate) const TIME: u64 = 1 << 2;
pub(crate) const ADDR: u64 = 1 << 3;
pub(crate) const READ: u64 = 1 << 4;
pub(crate) const CALLCHAIN: u64 = 1 << 5;
pub(crate) const ID: u64 = 1 << 6;
pub(crate) const CPU: u64 = 1 << 7;
pub(crate) const PERIOD: u64 = 1 << 8;
pub(crate) const STREAM_ID: u64 = 1 << 9;
pub(crate) const RAW: u64 = 1 << 10;
pub(crate) const IDENTIFIER: u64 = 1 << 16;

/// An event that is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerfEvent {
    /// 2 is a tracepoint.
    pub(crate) kind: u32,
    pub(crate) sample_type: u64,
    pub(crate) read_format: u64,
    pub(crate) has_sample_id: bool,
    pub(crate) id: u64,
}

impl PerfEvent {
    /// As perf records tracepoints.
    pub(crate) const TRACEPOINT: Self = Self {
        kind: 2,
        sample_type: IP | TID | TIME | CPU | PERIOD | RAW | IDENTIFIER,
        read_format: 4,
        has_sample_id: true,
        id: 11,
    };
}

/// When, where and of whom a record is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) time: u64,
    pub(crate) cpu: u32,
    pub(crate) pid: i32,
    pub(crate) tid: i32,
}

/// A file of perf.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerfFile {
    /// The kernel's files; their byte order is the recording's.
    pub(crate) dat: DatFile,
    pub(crate) events: Vec<PerfEvent>,
    pub(crate) records: Vec<u8>,
    /// Sections of the header, without the formats, which have the number 1.
    pub(crate) features: Vec<(u32, Vec<u8>)>,
}

impl PerfFile {
    fn u64(&self, value: u64) -> [u8; 8] {
        match self.dat.is_big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        }
    }

    fn u32(&self, value: u32) -> [u8; 4] {
        self.dat.u32(value as usize)
    }

    pub(crate) fn text(&self, text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize((bytes.len() + 1).next_multiple_of(64), 0);
        [&self.u32(bytes.len() as u32)[..], &bytes].concat()
    }

    /// A record of any kind.
    pub(crate) fn record(&self, kind: u32, body: &[u8]) -> Vec<u8> {
        let size = u16::try_from(8 + body.len()).expect("small");
        [&self.u32(kind)[..], &[0; 2], &self.dat.u16(size), body].concat()
    }

    fn two(&self, first: i32, second: i32) -> Vec<u8> {
        [self.u32(first as u32), self.u32(second as u32)].concat()
    }

    /// The end of a record that is not a sample.
    pub(crate) fn sample_id(&self, event: PerfEvent, at: Moment) -> Vec<u8> {
        let mut out = Vec::new();
        for field in [TID, TIME, ID, STREAM_ID, CPU, IDENTIFIER] {
            if !event.has_sample_id || event.sample_type & field == 0 {
                continue;
            }
            match field {
                TID => out.extend(self.two(at.pid, at.tid)),
                TIME => out.extend(self.u64(at.time)),
                CPU => out.extend(self.two(at.cpu as i32, 0)),
                _ => out.extend(self.u64(event.id)),
            }
        }
        out
    }

    pub(crate) fn sample(&mut self, event: PerfEvent, at: Moment, raw: &[u8]) {
        let mut out = Vec::new();
        for field in [
            IDENTIFIER, IP, TID, TIME, ADDR, ID, STREAM_ID, CPU, PERIOD, READ, CALLCHAIN, RAW,
        ] {
            if event.sample_type & field == 0 {
                continue;
            }
            match field {
                IDENTIFIER | ID | STREAM_ID => out.extend(self.u64(event.id)),
                TID => out.extend(self.two(at.pid, at.tid)),
                TIME => out.extend(self.u64(at.time)),
                CPU => out.extend(self.two(at.cpu as i32, 0)),
                READ => {
                    let words = event.read_format & 0b1_0111;
                    let each = 1 + (words & 0b1_0100).count_ones();
                    let times = (words & 0b11).count_ones();
                    let words = match event.read_format & 8 {
                        0 => each + times,
                        _ => {
                            out.extend(self.u64(3));
                            3 * each + times
                        }
                    };
                    (0..words).for_each(|word| out.extend(self.u64(word.into())));
                }
                CALLCHAIN => {
                    for word in [2, 0xffff, 0x4711] {
                        out.extend(self.u64(word));
                    }
                }
                // The size and the data together are a multiple of 8.
                RAW => {
                    let mut raw = raw.to_vec();
                    raw.resize((raw.len() + 4).next_multiple_of(8) - 4, 0);
                    out.extend(self.u32(raw.len() as u32));
                    out.extend(raw);
                }
                _ => out.extend(self.u64(0x7777)),
            }
        }
        let record = self.record(9, &out);
        self.records.extend(record);
    }

    pub(crate) fn other(&mut self, kind: u32, body: &[u8], event: PerfEvent, at: Moment) {
        let body = [body, &self.sample_id(event, at)].concat();
        let record = self.record(kind, &body);
        self.records.extend(record);
    }

    pub(crate) fn name(&mut self, name: &str, event: PerfEvent, at: Moment) {
        let mut body = self.two(at.pid, at.tid);
        body.extend(name.as_bytes());
        body.resize((body.len() + 1).next_multiple_of(8), 0);
        self.other(3, &body, event, at);
    }

    pub(crate) fn fork(&mut self, child: i32, parent: i32, event: PerfEvent, at: Moment) {
        let mut body = [self.two(child, parent), self.two(child, parent)].concat();
        body.extend(self.u64(at.time));
        self.other(7, &body, event, at);
    }

    pub(crate) fn lost(&mut self, count: u64, event: PerfEvent, at: Moment) {
        let body = [self.u64(event.id), self.u64(count)].concat();
        self.other(2, &body, event, at);
    }

    fn attr(&self, event: PerfEvent) -> Vec<u8> {
        let flags: u64 = u64::from(event.has_sample_id) << 18 | 1 << 1;
        let flags = match self.dat.is_big_endian {
            true => flags.reverse_bits(),
            false => flags,
        };
        let mut out = [self.u32(event.kind), self.u32(72)].concat();
        for word in [7, 1, event.sample_type, event.read_format, flags, 0, 0, 0] {
            out.extend(self.u64(word));
        }
        out
    }

    fn magic(&self) -> [u8; 8] {
        match self.dat.is_big_endian {
            true => *b"2ELIFREP",
            false => *b"PERFILE2",
        }
    }

    /// A file with these records.
    fn file_of(&self, records: &[u8]) -> Vec<u8> {
        const HEADER: u64 = 104;
        let mut features = self.features.clone();
        features.push((1, self.dat.tracing_data()));
        features.sort();
        let mut out = self.magic().to_vec();
        let count = self.events.len() as u64;
        let (ids_at, attrs_at) = (HEADER, HEADER + 8 * count);
        let data_at = attrs_at + 88 * count;
        let length = records.len() as u64;
        for word in [HEADER, 88, attrs_at, 88 * count, data_at, length, 0, 0] {
            out.extend(self.u64(word));
        }
        let bits = features
            .iter()
            .fold(0, |bits, (feature, _)| bits | 1 << feature);
        for word in [bits, 0, 0, 0] {
            out.extend(self.u64(word));
        }
        self.events
            .iter()
            .for_each(|event| out.extend(self.u64(event.id)));
        for (index, event) in self.events.iter().enumerate() {
            out.extend(self.attr(*event));
            out.extend(self.u64(ids_at + 8 * index as u64));
            out.extend(self.u64(8));
        }
        out.extend(records);
        let mut at = (out.len() + 16 * features.len()) as u64;
        for (_, content) in &features {
            out.extend(self.u64(at));
            out.extend(self.u64(content.len() as u64));
            at += content.len() as u64;
        }
        features.iter().for_each(|(_, content)| out.extend(content));
        out
    }

    pub(crate) fn file(&self) -> Vec<u8> {
        self.file_of(&self.records)
    }

    /// What `perf record -o -` writes.
    pub(crate) fn stream(&self) -> Vec<u8> {
        let mut out = self.magic().to_vec();
        out.extend(self.u64(16));
        for event in &self.events {
            let body = [&self.attr(*event)[..], &self.u64(event.id)].concat();
            out.extend(self.record(64, &body));
        }
        for (feature, content) in &self.features {
            let body = [&self.u64((*feature).into())[..], content].concat();
            out.extend(self.record(80, &body));
        }
        let mut data = self.dat.tracing_data();
        data.resize(data.len().next_multiple_of(8), 0);
        out.extend(self.record(66, &self.u32(data.len() as u32)));
        out.extend(data);
        out.extend(&self.records);
        out
    }

    /// A stream of zstd, cut into records without regard to what is in it: of each chunk of
    /// records a block that is not compressed. Only an ended stream has a last block.
    pub(crate) fn packed(&self, is_ended: bool) -> Vec<u8> {
        let mut stream = b"\x28\xb5\x2f\xfd\x00\x58".to_vec();
        for chunk in self.records.chunks(100) {
            stream.extend(&(chunk.len() as u32 * 8).to_le_bytes()[..3]);
            stream.extend(chunk);
        }
        if is_ended {
            stream.extend([1, 0, 0]);
        }
        self.file_of(&self.packed_records(&stream))
    }

    /// Records of compressed bytes.
    pub(crate) fn packed_records(&self, stream: &[u8]) -> Vec<u8> {
        let parts = stream.chunks(150).enumerate();
        let records = parts.flat_map(|(index, part)| match index % 2 {
            0 => self.record(81, part),
            // Padded, after the length.
            _ => self.record(
                83,
                &[&self.u64(part.len() as u64)[..], part, &[0; 4]].concat(),
            ),
        });
        records.collect()
    }

    pub(crate) fn with_records(&self, records: &[u8]) -> Vec<u8> {
        self.file_of(records)
    }

    /// Each form with its name.
    pub(crate) fn forms(&self) -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("file", self.file()),
            ("stream", self.stream()),
            ("compressed", self.packed(false)),
            ("compressed, ended", self.packed(true)),
        ]
    }
}
