//! Resolves many events at once, with two threads: most of the time of listing a kernel
//! is spent in the kernel, once for each format file.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use super::answers::ReadFormats;
use super::kept::Usable;
use crate::context::{Context, Silence, Undecided};
use crate::error::Error;
use crate::files::Listing;
use crate::files::Modules;
use crate::kernel::Kernel;
use crate::kernel::Tracepoint;
use crate::name::EventName;

/// How many events a thread takes at a time: enough that the threads seldom wait for each
/// other, few enough that they finish together.
const CHUNK: usize = 32;

/// An event and its context, or its error.
type Found = Result<(Tracepoint, Context), Error>;

/// Like [`Found`], before decisions that take other events' formats.
type Half = Result<(Tracepoint, Result<Context, Undecided>), Error>;

/// An iterator over events with their contexts, in the order they were asked for: see
/// [`Kernel::contexts`].
#[derive(Debug)]
pub struct Contexts {
    found: std::vec::IntoIter<Found>,
}

impl Iterator for Contexts {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        self.found.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.found.size_hint()
    }
}

impl ExactSizeIterator for Contexts {}

/// Consecutive events, and the index of the first.
type Chunk<T> = (usize, Vec<T>);

/// State that the threads share.
pub(crate) struct Sweep<'k, 'n> {
    pub(crate) kernel: &'k Kernel,
    /// The events to read: those that are not kept.
    names: Vec<&'n EventName>,
    pub(crate) listing: Arc<Listing>,
    pub(crate) modules: Arc<Modules>,
    pub(super) usable: Usable<'k>,
    /// Whether records are asked for, not only the structs of contexts.
    wants_records: bool,
    /// The index of the first event that no thread has taken.
    next: AtomicUsize,
    /// Formats that were read before vmlinux's BTF.
    waiting: Mutex<Vec<Chunk<Result<Tracepoint, Error>>>>,
}

impl<'k, 'n> Sweep<'k, 'n> {
    /// Makes a sweep over events that exist, while these modules are loaded. Unless it
    /// `wants_records`, formats lack the types of system calls' arguments, and nothing that
    /// is read is kept.
    pub(crate) fn new(
        kernel: &'k Kernel,
        listing: Arc<Listing>,
        modules: Arc<Modules>,
        wants_records: bool,
    ) -> Self {
        Self {
            kernel,
            names: Vec::new(),
            usable: Usable::of(kernel, &listing, &modules),
            listing,
            modules,
            wants_records,
            next: AtomicUsize::new(0),
            waiting: Mutex::new(Vec::new()),
        }
    }

    /// Resolves all events, in the order of `names`. Fails if BTF, which all need, cannot
    /// be read.
    pub(crate) fn run(&mut self, names: Vec<&'n EventName>) -> Result<Contexts, Error> {
        let kept: Vec<Option<(Tracepoint, Context)>> =
            names.iter().map(|name| self.usable.get(name)).collect();
        let missing = std::iter::zip(names, &kept).filter(|(_, kept)| kept.is_none());
        self.names = missing.map(|(name, _)| name).collect();
        *self.next.get_mut() = 0;
        let mut read = self.read()?.into_iter();
        let found = kept.into_iter().filter_map(|kept| match kept {
            Some((tracepoint, context)) => Some(Ok((tracepoint, Ok(context)))),
            None => read.next(),
        });
        let found = self.decide(found.collect());
        if self.wants_records {
            self.usable.keep(found.iter().flatten());
        }
        Ok(Contexts {
            found: found.into_iter(),
        })
    }

    /// Reads the events that are not kept, and resolves what can be without the others.
    fn read(&self) -> Result<Vec<Half>, Error> {
        let mut found = thread::scope(|scope| {
            let help = || self.work();
            let is_worth_it = self.names.len() > CHUNK;
            let helper = is_worth_it.then(|| thread::Builder::new().spawn_scoped(scope, help));
            // BTF is read while the thread starts.
            let vmlinux = self.kernel.vmlinux();
            if vmlinux.is_err() {
                self.next.store(self.names.len(), Ordering::Relaxed);
            }
            let mut found = self.work();
            // If the system cannot start a thread, this one has done all the work.
            if let Some(Ok(helper)) = helper {
                found.extend(
                    ScopedJoinHandle::join(helper).unwrap_or_else(|panic| resume_unwind(panic)),
                );
            }
            vmlinux.map(|_| found)
        })?;
        found.sort_unstable_by_key(|(start, _)| *start);
        Ok(found.into_iter().flat_map(|(_, chunk)| chunk).collect())
    }

    /// Decides the few in a hundred that are still open, with the formats of all.
    fn decide(&self, found: Vec<Half>) -> Vec<Found> {
        let read = found.iter().flatten();
        let is_open = read.clone().any(|(_, context)| context.is_err());
        let formats: ReadFormats<'_> = match is_open {
            true => read
                .clone()
                .map(|(tracepoint, _)| (tracepoint.name(), tracepoint.shared_format()))
                .collect(),
            false => ReadFormats::new(),
        };
        let (listing, modules) = (&self.listing, &self.modules);
        let decide = |(tracepoint, context): &(Tracepoint, Result<Context, Undecided>)| {
            let undecided = context.as_ref().err()?;
            let kernel = self.kernel;
            Some(kernel.decide(undecided, tracepoint, listing, modules, &formats))
        };
        let mut decided: VecDeque<Context> = read.filter_map(decide).collect();
        let close = |half: Half| {
            let (tracepoint, context) = half?;
            let context = context.unwrap_or_else(|undecided| {
                let decided = decided.pop_front();
                decided.unwrap_or_else(|| undecided.decide(tracepoint.shared_format(), &Silence))
            });
            Ok((tracepoint, context))
        };
        found.into_iter().map(close).collect()
    }

    /// Does the work of one thread: reads formats, and resolves contexts once BTF has been
    /// read.
    fn work(&self) -> Vec<Chunk<Half>> {
        let mut reader = self.kernel.reader();
        let mut found = Vec::new();
        loop {
            let start = self.next.fetch_add(CHUNK, Ordering::Relaxed);
            let Some(names) = self.names.get(start..).filter(|names| !names.is_empty()) else {
                break;
            };
            let names = names.iter().take(CHUNK);
            let read = names.map(|name| match self.wants_records {
                true => self.kernel.tracepoint_by(&mut reader, name),
                false => self.kernel.tracepoint_without_types(&mut reader, name),
            });
            let read = read.collect();
            match self.kernel.is_vmlinux_read() {
                true => found.push((start, self.resolve(read))),
                false => self.waiting().push((start, read)),
            }
        }
        if self.waiting().is_empty() || self.kernel.vmlinux().is_err() {
            return found;
        }
        loop {
            let waiting = self.waiting().pop();
            let Some((start, read)) = waiting else {
                return found;
            };
            found.push((start, self.resolve(read)));
        }
    }

    fn resolve(&self, read: Vec<Result<Tracepoint, Error>>) -> Vec<Half> {
        let resolve = |read: Result<Tracepoint, Error>| {
            let tracepoint = read?;
            let context = self
                .kernel
                .context_in(&tracepoint, &self.listing, &self.modules)?;
            Ok((tracepoint, context))
        };
        read.into_iter().map(resolve).collect()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Chunk<Result<Tracepoint, Error>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
