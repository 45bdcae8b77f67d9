//! Pages of several CPUs and buffers, in the order of their times.

use std::io::{self, IsTerminal};
use std::ops::Range;
use std::process::ExitCode;

use tracepoints::ByteOrder;
use tracepoints::record::ring::{Lost, PageLayout, RingError};
use tracepoints::text::TraceStyle;

use super::pages::PageBytes;
use super::sink::Sink;
use crate::output::{Failure, Progress, say};

/// The number of bytes whose decoding takes more than a moment.
const LARGE: u64 = 16 << 20;

/// Pages of one CPU and buffer.
pub(super) struct Source<'a> {
    /// The name, for messages.
    pub(super) name: String,
    pub(super) cpu: u32,
    pub(super) bytes: PageBytes<'a>,
    /// The buffer, if lines name it; otherwise empty.
    pub(super) buffer: &'a str,
    pub(super) layout: PageLayout,
    pub(super) byte_order: ByteOrder,
    pub(super) style: TraceStyle,
    /// The offset added to each time, in nanoseconds.
    pub(super) time_offset: i64,
}

/// Gives all entries to the sink, and reports pages that cannot be read. One page of each
/// source is held at a time.
pub(super) fn decode_all(
    mut sink: Sink<'_>,
    sources: Vec<Source<'_>>,
) -> Result<ExitCode, Failure> {
    // Where one is not known, nor is how much is done.
    let sizes: Option<Vec<u64>> = sources.iter().map(|source| source.bytes.size()).collect();
    let all = sizes.map_or(0, |sizes| sizes.into_iter().fold(0, u64::saturating_add));
    let mut streams: Vec<Stream<'_>> = sources.into_iter().map(Stream::new).collect();
    for stream in &mut streams {
        stream.advance(&mut sink)?;
    }
    // Among events of one time, the kernel puts those of the first CPU first.
    let order = |stream: &&mut Stream<'_>| stream.time().map(|time| (time, stream.source.cpu));
    // On a terminal, the lines show the progress.
    let is_long = all >= LARGE && !(sink.is_lines() && io::stdout().is_terminal());
    let mut progress = Progress::when(is_long, "decoding");
    let mut done = 0;
    while let Some(stream) = streams
        .iter_mut()
        .filter(|stream| stream.time().is_some())
        .min_by_key(order)
    {
        let source = &stream.source;
        if let Some((time, bytes)) = stream.page.entry() {
            sink.turn_to(source.buffer, source.style);
            sink.lost(source.cpu, stream.lost.take())?;
            let time = time.wrapping_add_signed(source.time_offset);
            sink.record(source.cpu, time, bytes)?;
        }
        let before = stream.pages_read;
        stream.page.next += 1;
        stream.advance(&mut sink)?;
        if stream.pages_read != before {
            done += (stream.pages_read - before) * stream.source.layout.page_size() as u64;
            progress.update(done, all);
        }
    }
    progress.end();
    let mut failed = sink.finish()?;
    for stream in streams.iter().filter(|stream| stream.errors > 0) {
        if stream.errors > 1 {
            let (name, more) = (&stream.source.name, stream.errors - 1);
            say!("{name}: {more} errors more");
        }
        failed = true;
    }
    Ok(match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// The entries of a page.
#[derive(Default)]
struct HeldPage {
    /// Their records.
    bytes: Vec<u8>,
    /// The time of each, and where its record is.
    entries: Vec<(u64, Range<usize>)>,
    /// The entry that is read next.
    next: usize,
    /// The error after the last entry.
    error: Option<RingError>,
}

impl HeldPage {
    /// Returns the time and the record of the next entry.
    fn entry(&self) -> Option<(u64, &[u8])> {
        let (time, place) = self.entries.get(self.next)?;
        Some((*time, self.bytes.get(place.clone())?))
    }
}

/// The entries of one source, read one page ahead.
struct Stream<'a> {
    source: Source<'a>,
    page: HeldPage,
    lost: Option<Lost>,
    errors: u64,
    pages_read: u64,
}

impl<'a> Stream<'a> {
    fn new(source: Source<'a>) -> Self {
        Self {
            source,
            page: HeldPage::default(),
            lost: None,
            errors: 0,
            pages_read: 0,
        }
    }

    /// Returns the time of the next entry; `None` at the end.
    fn time(&self) -> Option<u64> {
        self.page.entries.get(self.page.next).map(|(time, _)| *time)
    }

    /// Turns to the next page if this one has no more entries. Reports pages that cannot be
    /// read, and skips them.
    fn advance(&mut self, sink: &mut Sink<'_>) -> Result<(), Failure> {
        while self.time().is_none() {
            let error = match self.page.error.take() {
                Some(error) => error,
                None => match self.turn(sink)? {
                    Turned::Page => continue,
                    Turned::Bad(error) => error,
                    Turned::End => return Ok(()),
                },
            };
            // Only the first error is reported: in a file that has no pages, there are only
            // errors.
            self.errors += 1;
            if self.errors == 1 {
                sink.flush()?;
                say!("{}: {error}", self.source.name);
            }
        }
        Ok(())
    }

    /// Reads the next page.
    fn turn(&mut self, sink: &mut Sink<'_>) -> Result<Turned, Failure> {
        let source = &mut self.source;
        let read = source.bytes.next_page(source.layout.page_size());
        let read = read.map_err(|error| Failure::Other(format!("{}: {error}", source.name)))?;
        let Some((offset, bytes)) = read else {
            sink.turn_to(source.buffer, source.style);
            sink.lost(source.cpu, self.lost.take())?;
            return Ok(Turned::End);
        };
        let page = match source.layout.page_at(bytes, offset, source.byte_order) {
            Ok(page) => page,
            Err(error) => return Ok(Turned::Bad(error)),
        };
        self.pages_read += 1;
        // A page may contain only the number of lost events.
        sink.turn_to(source.buffer, source.style);
        sink.lost(source.cpu, self.lost.take())?;
        self.lost = page.lost();
        let held = &mut self.page;
        held.bytes.clear();
        held.entries.clear();
        held.next = 0;
        for entry in page.entries() {
            match entry {
                Ok(entry) => {
                    let start = held.bytes.len();
                    held.bytes.extend_from_slice(entry.bytes());
                    let place = start..held.bytes.len();
                    held.entries.push((entry.timestamp(), place));
                }
                Err(error) => held.error = Some(error),
            }
        }
        Ok(Turned::Page)
    }
}

/// The state after a page.
enum Turned {
    Page,
    /// A page that cannot be read.
    Bad(RingError),
    End,
}
