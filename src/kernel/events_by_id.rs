//! Events by the ids their records carry.

use std::fmt;
use std::sync::OnceLock;

use super::Kernel;
use crate::error::Error;
use crate::format::Format;
use crate::machine::Machine;
use crate::name::EventName;
use crate::record::Record;

/// A kernel's events by id, those of `ftrace:*` included: what the bytes of a record
/// are read by, from a page of the ring buffer or from perf.
///
/// Which event has which id is read at once, a format file when it is first asked
/// for. Ids are given at boot and when modules load: of records, those of the same
/// boot are wanted.
///
/// ```
/// use tracepoints::Kernel;
///
/// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
/// let events = kernel.events_by_id()?;
/// // What perf gives behind PERF_SAMPLE_RAW's size, of a program that exits.
/// let mut raw = [0; 36];
/// raw[..2].copy_from_slice(&305u16.to_le_bytes());
/// raw[8..11].copy_from_slice(b"cat");
/// let (name, record) = events.record(&raw)?;
/// assert_eq!(name.as_str(), "sched:sched_process_exit");
/// let comm = record.format().field("comm").ok_or("no comm")?;
/// assert_eq!(record.value(comm)?.to_string(), "cat");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EventsById {
    kernel: Kernel,
    machine: Machine,
    /// At the place of its id, each event.
    events: Vec<Option<KnownEvent>>,
}

struct KnownEvent {
    name: EventName,
    /// Another one of the same id.
    rival: Option<EventName>,
    format: OnceLock<Format>,
}

impl EventsById {
    pub(crate) fn read(kernel: Kernel, machine: Machine) -> Result<Self, Error> {
        let tracefs = &kernel.inner.tracefs;
        let mut events: Vec<Option<KnownEvent>> = Vec::new();
        for name in tracefs.event_directories()? {
            let id = match tracefs.id(&name) {
                // Gone since, or an id no record can carry.
                Ok(id) => id.and_then(|id| u16::try_from(id).ok()),
                // What is wrong with it matters where its records are read.
                Err(error) if error.is_of_one_event() => continue,
                Err(error) => return Err(error),
            };
            let Some(id) = id.map(usize::from) else {
                continue;
            };
            if events.len() <= id {
                events.resize_with(id + 1, || None);
            }
            match &mut events[id] {
                Some(event) => event.rival = Some(name),
                free => {
                    *free = Some(KnownEvent {
                        name,
                        rival: None,
                        format: OnceLock::new(),
                    });
                }
            }
        }
        Ok(Self {
            kernel,
            machine,
            events,
        })
    }

    /// The machine whose records these are.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The event of this id, and its format.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownEventId`], [`Error::SharedEventId`] and
    /// [`Error::OtherEventId`]; [`Error::EventGone`], [`Error::Format`],
    /// [`Error::OtherEvent`], [`Error::File`],
    /// about the format file.
    #[inline]
    pub fn event(&self, id: u16) -> Result<(&EventName, &Format), Error> {
        let event = self.events.get(usize::from(id)).and_then(Option::as_ref);
        match event {
            Some(event) => match event.format.get() {
                Some(format) => Ok((&event.name, format)),
                None => self.read_format(id, event),
            },
            None => Err(Error::UnknownEventId { id }),
        }
    }

    #[cold]
    fn read_format<'a>(
        &self,
        id: u16,
        event: &'a KnownEvent,
    ) -> Result<(&'a EventName, &'a Format), Error> {
        let name = &event.name;
        if let Some(rival) = &event.rival {
            return Err(Error::SharedEventId {
                id,
                first: name.clone(),
                second: rival.clone(),
            });
        }
        let path = self.kernel.inner.tracefs.format_path(name);
        match self.kernel.format(name)? {
            Some(format) if format.id() == u32::from(id) => {
                Ok((name, event.format.get_or_init(|| format)))
            }
            Some(format) => Err(Error::OtherEventId {
                path,
                id,
                found: format.id(),
            }),
            None => Err(Error::EventGone {
                name: name.clone(),
                path,
            }),
        }
    }

    /// The event whose record these bytes are, and the record: an entry of the ring
    /// buffer, or what perf gives for `PERF_SAMPLE_RAW` behind its u32 of the size.
    ///
    /// # Errors
    ///
    /// [`Error::NoEventId`] of less than 2 bytes, and those of
    /// [`event`](Self::event).
    #[inline]
    pub fn record<'a>(&'a self, bytes: &'a [u8]) -> Result<(&'a EventName, Record<'a>), Error> {
        let id = self.machine.event_id(bytes);
        let id = id.ok_or(Error::NoEventId {
            length: bytes.len(),
        })?;
        let (name, format) = self.event(id)?;
        Ok((name, Record::new(format, bytes, self.machine)))
    }
}

impl fmt::Debug for EventsById {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.events.iter().flatten().count();
        out.debug_struct("EventsById")
            .field("machine", &self.machine)
            .field("events", &count)
            .finish_non_exhaustive()
    }
}
