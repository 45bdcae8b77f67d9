//! Finds the events of records, by id.

use std::fmt;
use std::sync::OnceLock;

use super::Kernel;
use crate::error::Error;
use crate::format::Format;
use crate::machine::Machine;
use crate::name::EventName;
use crate::record::Record;

/// A kernel's events by id, including those of `ftrace:*`: finds the format for the bytes
/// of a record, from a page of the ring buffer or from perf.
///
/// All ids are read at once, and a format file when it is first needed. Ids are assigned
/// at boot and when modules load, so the records must be of the same boot.
///
/// ```
/// use tracepoints::Kernel;
///
/// let kernel = Kernel::at("tests/fixtures/6.18.15-x86_64")?;
/// let events = kernel.events_by_id()?;
/// // The bytes that perf gives after the size in PERF_SAMPLE_RAW, for a program that exits.
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
    /// The event of each id, at that index.
    events: Vec<Option<KnownEvent>>,
}

struct KnownEvent {
    name: EventName,
    /// Another event with the same id.
    rival: Option<EventName>,
    format: OnceLock<Format>,
}

impl EventsById {
    pub(crate) fn read(kernel: Kernel, machine: Machine) -> Result<Self, Error> {
        let tracefs = &kernel.inner.tracefs;
        let mut events: Vec<Option<KnownEvent>> = Vec::new();
        for name in tracefs.event_directories()? {
            let id = match tracefs.id(&name) {
                // The event is gone since, or has an id that no record can have.
                Ok(id) => id.and_then(|id| u16::try_from(id).ok()),
                // The error matters only if the event's records are read.
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

    /// Returns the machine whose records these are.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Returns the event with this id, and its format.
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
            Some(format) if format.id() == Some(u32::from(id)) => {
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

    /// Returns the event of a record, and the record. The bytes are an entry of the ring
    /// buffer, or those that perf gives after the u32 size in `PERF_SAMPLE_RAW`.
    ///
    /// # Errors
    ///
    /// [`Error::NoEventId`] for less than 2 bytes, and those of [`event`](Self::event).
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
