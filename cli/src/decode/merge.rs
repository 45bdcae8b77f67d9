//! Pages of several CPUs and buffers, in the order of their times.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use tracepoints::ByteOrder;
use tracepoints::record::ring::{Entries, Entry, Lost, PageLayout, Pages};
use tracepoints::text::TraceStyle;

use super::sink::Sink;
use crate::output::{Failure, Progress, say};

/// The number of bytes whose decoding takes more than a moment.
const LARGE: usize = 16 << 20;

/// Pages of one CPU and buffer.
pub(super) struct Source<'a> {
    /// The name, for messages.
    pub(super) name: String,
    pub(super) cpu: u32,
    pub(super) bytes: &'a [u8],
    /// The buffer, if lines name it; otherwise empty.
    pub(super) buffer: &'a str,
    pub(super) layout: PageLayout,
    pub(super) byte_order: ByteOrder,
    pub(super) style: TraceStyle,
    /// The offset added to each time, in nanoseconds.
    pub(super) time_offset: i64,
}

/// Gives all entries to the sink, and reports pages that cannot be read.
pub(super) fn decode_all(
    mut sink: Sink<'_>,
    sources: Vec<Source<'_>>,
) -> Result<ExitCode, Failure> {
    let mut streams: Vec<Stream<'_>> = sources.iter().map(Stream::new).collect();
    for stream in &mut streams {
        stream.advance(&mut sink)?;
    }
    // Among events of one time, the kernel puts those of the first CPU first.
    let order = |stream: &&mut Stream<'_>| {
        let entry = stream.next.as_ref();
        entry.map(|entry| (entry.timestamp(), stream.source.cpu))
    };
    let all: usize = sources.iter().map(|source| source.bytes.len()).sum();
    // On a terminal, the lines show the progress.
    let is_long = all >= LARGE && !(sink.is_lines() && io::stdout().is_terminal());
    let mut progress = Progress::when(is_long, "decoding");
    let mut done = 0;
    while let Some(stream) = streams
        .iter_mut()
        .filter(|stream| stream.next.is_some())
        .min_by_key(order)
    {
        let source = stream.source;
        if let Some(entry) = stream.next {
            sink.turn_to(source.buffer, source.style);
            sink.lost(source.cpu, stream.lost.take())?;
            let time = entry.timestamp().wrapping_add_signed(source.time_offset);
            sink.record(source.cpu, time, entry.bytes())?;
        }
        let before = stream.pages_read;
        stream.advance(&mut sink)?;
        if stream.pages_read != before {
            done += (stream.pages_read - before) * source.layout.page_size();
            progress.update(done as u64, all as u64);
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

/// The entries of one source, read one ahead.
struct Stream<'a> {
    source: &'a Source<'a>,
    pages: Pages<'a>,
    entries: Option<Entries<'a>>,
    next: Option<Entry<'a>>,
    lost: Option<Lost>,
    errors: usize,
    pages_read: usize,
}

impl<'a> Stream<'a> {
    fn new(source: &'a Source<'a>) -> Self {
        Self {
            source,
            pages: source.layout.pages(source.bytes, source.byte_order),
            entries: None,
            next: None,
            lost: None,
            errors: 0,
            pages_read: 0,
        }
    }

    /// Advances to the next entry. Reports pages that cannot be read, and skips them.
    fn advance(&mut self, sink: &mut Sink<'_>) -> Result<(), Failure> {
        let source = self.source;
        loop {
            let error = match self.entries.as_mut().and_then(Iterator::next) {
                Some(Ok(entry)) => {
                    self.next = Some(entry);
                    return Ok(());
                }
                Some(Err(error)) => error,
                None => match self.pages.next() {
                    Some(Ok(page)) => {
                        self.pages_read += 1;
                        // A page may contain only the number of lost events.
                        sink.turn_to(source.buffer, source.style);
                        sink.lost(source.cpu, self.lost.take())?;
                        self.lost = page.lost();
                        self.entries = Some(page.entries());
                        continue;
                    }
                    Some(Err(error)) => error,
                    None => {
                        self.next = None;
                        sink.turn_to(source.buffer, source.style);
                        return sink.lost(source.cpu, self.lost.take());
                    }
                },
            };
            // Only the first error is reported: in a file that has no pages, there are only
            // errors.
            self.errors += 1;
            if self.errors == 1 {
                sink.flush()?;
                say!("{}: {error}", source.name);
            }
        }
    }
}
