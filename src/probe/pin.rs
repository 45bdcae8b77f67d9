//! Probes that outlive the process that attached them, in a directory of a BPF file system.
//!
//! A file of such a file system holds a map, a program or a link, which stay as long as it
//! does. The meaning of the bytes in the maps is in none of them, and there are no files of
//! other kinds: so it is written to a map of its own, which is frozen and pinned beside the
//! others (`description`). It has the ids of all objects that it describes. What is pinned
//! there by now must have the same: no other map is read by it.
//!
//! The description is read only by the version of this crate that wrote it, and is checked as
//! untrusted input is.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::maps::{
    HashMap, IterableMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf,
};
use rustix::fs::{FlockOperation, Mode, OFlags};

use super::attach::Attachments;
use super::attached::Attached;
use super::description::{DescribedResults, PinDescription};
use super::detaching::detach;
use super::error::{PinError, ProbeError};
use super::group::{GroupPlan, Groups};
use super::reading::AwaitedStrings;
use super::service::PlannedProgram;
use super::tally::{Counter, Histogram};
use super::{Probe, map_error};
use crate::bpf::sys::{self, OneValueMap};
use crate::kernel::{Kernel, Tracepoint};

/// The names of files.
const DESCRIPTION: &str = "description";
const COUNTS: &str = "counts";
const RING: &str = "ring";
const GROUPS: &str = "groups";
const LOST_RETURNS: &str = "lost_returns";
const STACKS: &str = "stacks";
const LINKS: &str = "links";
const PROGRAMS: &str = "programs";

/// A probe that is pinned to a directory of a BPF file system, where it goes on without the
/// process that attached it.
///
/// [`Counter::pin`], [`Histogram::pin`], [`Groups::pin`] and [`Probe::pin`] make one. Dropping
/// it changes nothing. The probe ends by [`remove`](Self::remove), when its directory is deleted
/// (`rm -r`), and when the system is shut down.
///
/// ```no_run
/// use tracepoints::Kernel;
/// use tracepoints::probe::{PinnedProbe, PinnedResults, Probe};
///
/// let kernel = Kernel::live()?;
/// let switch = kernel.tracepoint("sched:sched_switch")?;
/// Probe::builder([&switch]).count()?.pin("/sys/fs/bpf/switches")?;
///
/// // Later, in another process:
/// let pinned = PinnedProbe::open("/sys/fs/bpf/switches")?;
/// if let PinnedResults::Counts(counter) = pinned.results() {
///     println!("{:?}", counter.counts()?);
/// }
/// pinned.remove()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PinnedProbe {
    directory: PathBuf,
    results: PinnedResults,
    description: PinDescription,
    /// The directory, locked, where there is a ring buffer, which can have one reader.
    _lock: Option<OwnedFd>,
}

/// The results of a pinned probe.
#[derive(Debug)]
#[non_exhaustive]
pub enum PinnedResults {
    /// Records ([`ProbeBuilder::attach`](super::ProbeBuilder::attach)). Reading takes them out
    /// of the ring buffer. Those that come while it is full are lost and counted.
    Records(Box<Probe>),
    /// Counts ([`ProbeBuilder::count`](super::ProbeBuilder::count)).
    Counts(Counter),
    /// Counts of values ([`ProbeBuilder::histogram`](super::ProbeBuilder::histogram)).
    Histogram(Histogram),
    /// Counts in groups ([`ProbeBuilder::group_by`](super::ProbeBuilder::group_by)).
    Groups(Box<Groups>),
}

impl PinnedProbe {
    /// Opens what is pinned to a directory.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Pin`]: no probe is pinned there, or one by another version of this crate,
    /// or something else by now; or its records are being read by another process.
    /// [`ProbeError::System`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, ProbeError> {
        let directory = directory.as_ref().to_owned();
        let failed = |source| ProbeError::Pin {
            path: directory.clone(),
            source,
        };
        match is_bpffs(&directory) {
            Ok(true) => {}
            Ok(false) => return Err(failed(PinError::NotBpffs)),
            Err(PinError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(failed(PinError::None));
            }
            Err(error) => return Err(failed(error)),
        }
        let description = PinDescription::read(&directory).map_err(failed)?;
        let lock = match description.results {
            DescribedResults::Records { .. } => Some(locked(&directory).map_err(failed)?),
            _ => None,
        };
        let results = description.open(&directory, failed)?;
        Ok(Self {
            results,
            description,
            _lock: lock,
            directory,
        })
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the results, to be read.
    pub fn results(&self) -> &PinnedResults {
        &self.results
    }

    /// Returns the results, to take records out of them.
    pub fn results_mut(&mut self) -> &mut PinnedResults {
        &mut self.results
    }

    /// Returns the number of its programs that are no longer attached, because the files of
    /// their links were deleted. Their counts until then stay.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Pin`] if something else is pinned in the place of one.
    pub fn detached_programs(&self) -> Result<usize, ProbeError> {
        let mut missing = 0;
        for index in 0..self.description.links.len() {
            missing += usize::from(self.link(index)?.is_none());
        }
        Ok(missing)
    }

    /// Returns the events of its records that this kernel still has as they were, to print
    /// records in the kernel's words ([`PrettyPrinter`](super::PrettyPrinter)); none once one
    /// of its programs is detached, because a module may have been replaced since.
    ///
    /// # Errors
    ///
    /// Those of [`detached_programs`](Self::detached_programs).
    pub fn unchanged_events(&self, kernel: &Kernel) -> Result<Vec<Tracepoint>, ProbeError> {
        let DescribedResults::Records { plans, ids } = &self.description.results else {
            return Ok(Vec::new());
        };
        if self.detached_programs()? > 0 {
            return Ok(Vec::new());
        }
        let ids = plans.iter().zip(ids);
        let known = ids.filter_map(|(plan, id)| {
            let event = kernel.tracepoint(&plan.name).ok()?;
            (id.is_some() && event.id() == *id).then_some(event)
        });
        Ok(known.collect())
    }

    /// Detaches its programs: none runs any more after this. The results stay.
    ///
    /// A program of type `tp` takes the kernel some 40 ms, one after another.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Pin`].
    pub fn detach(&self) -> Result<(), ProbeError> {
        /// As many as are closed at once.
        const PART: usize = 256;
        let all: Vec<usize> = (0..self.description.links.len()).collect();
        for part in all.chunks(PART) {
            let mut links = Vec::new();
            for index in part {
                if let Some(link) = self.link(*index)? {
                    links.push(link);
                    self.remove_file(LINKS, &index.to_string())?;
                }
            }
            detach(links, Vec::new(), true);
        }
        Ok(())
    }

    /// Detaches its programs, and removes the directory.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Pin`]: among others if there are files in the directory that are not the
    /// probe's.
    pub fn remove(self) -> Result<(), ProbeError> {
        self.detach()?;
        for index in 0..self.description.programs.len() {
            self.remove_file(PROGRAMS, &index.to_string())?;
        }
        for name in self.description.maps.keys() {
            self.remove_file("", name)?;
        }
        self.remove_file("", DESCRIPTION)?;
        let mut directories = [LINKS, PROGRAMS, ""].into_iter();
        directories.try_for_each(|name| self.gone(fs::remove_dir(self.directory.join(name))))
    }

    /// Opens a link; `None` if it is not there any more.
    fn link(&self, index: usize) -> Result<Option<OwnedFd>, ProbeError> {
        let name = format!("{LINKS}/{index}");
        match object(&self.directory, &name, self.description.links[index]) {
            Ok(link) => Ok(Some(link)),
            Err(PinError::Missing { .. }) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn remove_file(&self, directory: &str, name: &str) -> Result<(), ProbeError> {
        self.gone(fs::remove_file(self.directory.join(directory).join(name)))
    }

    /// What was gone before is removed, too.
    fn gone(&self, removed: io::Result<()>) -> Result<(), ProbeError> {
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failed(PinError::Io(error)))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, source: PinError) -> ProbeError {
        ProbeError::Pin {
            path: self.directory.clone(),
            source,
        }
    }
}

/// Pins what is attached to a new directory, and lets go of it.
pub(super) fn pin(mut results: PinnedResults, directory: &Path) -> Result<PinnedProbe, ProbeError> {
    let failed = |source| ProbeError::Pin {
        path: directory.to_owned(),
        source,
    };
    make_directory(directory).map_err(failed)?;
    let made = results.pin_objects(directory);
    let made = made.and_then(|description| {
        let lock = match results {
            PinnedResults::Records(_) => Some(locked(directory)?),
            _ => None,
        };
        Ok((description, lock))
    });
    let (description, lock) = made.map_err(|error| {
        // It holds nothing but what was pinned here.
        let _ = fs::remove_dir_all(directory);
        failed(error)
    })?;
    results.attached_mut().let_go();
    Ok(PinnedProbe {
        directory: directory.to_owned(),
        results,
        description,
        _lock: lock,
    })
}

impl PinnedResults {
    /// Pins what is attached to a new directory of a BPF file system, where it goes on without
    /// this process: see [`PinnedProbe`].
    ///
    /// # Errors
    ///
    /// [`ProbeError::Pin`]. It is detached then.
    pub fn pin(self, directory: impl AsRef<Path>) -> Result<PinnedProbe, ProbeError> {
        pin(self, directory.as_ref())
    }

    /// Returns the programs that count, or write records, and which events each serves.
    pub fn plan(&self) -> &[PlannedProgram] {
        &self.attached().plan
    }

    fn attached(&self) -> &Attached {
        match self {
            Self::Records(probe) => &probe.attached,
            Self::Counts(counter) => &counter.attached,
            Self::Histogram(histogram) => &histogram.attached,
            Self::Groups(groups) => &groups.attached,
        }
    }

    fn attached_mut(&mut self) -> &mut Attached {
        match self {
            Self::Records(probe) => &mut probe.attached,
            Self::Counts(counter) => &mut counter.attached,
            Self::Histogram(histogram) => &mut histogram.attached,
            Self::Groups(groups) => &mut groups.attached,
        }
    }

    fn maps(&self) -> Vec<(&'static str, BorrowedFd<'_>)> {
        let mut maps = vec![(COUNTS, self.attached().counts.map().fd().as_fd())];
        match self {
            Self::Records(probe) => {
                maps.push((RING, probe.ring.as_fd()));
                let lost = probe.lost_returns.as_ref();
                maps.extend(lost.map(|lost| (LOST_RETURNS, lost.map().fd().as_fd())));
            }
            Self::Groups(groups) => {
                maps.push((GROUPS, groups.map.map().fd().as_fd()));
                let stacks = groups.stacks.as_ref();
                maps.extend(stacks.map(|stacks| (STACKS, stacks.map().fd().as_fd())));
            }
            Self::Counts(_) | Self::Histogram(_) => {}
        }
        maps
    }

    fn described(&self) -> DescribedResults {
        match self {
            Self::Records(probe) => DescribedResults::Records {
                plans: Arc::clone(&probe.plans),
                ids: probe.ids.clone(),
            },
            Self::Counts(counter) => DescribedResults::Counts {
                events: counter.events.clone(),
            },
            Self::Histogram(histogram) => DescribedResults::Histogram {
                events: histogram.events.clone(),
                field: histogram.field.clone(),
            },
            Self::Groups(groups) => DescribedResults::Groups {
                by: groups.by.clone(),
                measured: groups.measured.clone(),
                plans: groups.plans.clone(),
            },
        }
    }

    /// Pins all that it takes, the description last: a directory without it was not finished.
    fn pin_objects(&self, directory: &Path) -> Result<PinDescription, PinError> {
        let attached = self.attached();
        let mut description = PinDescription {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            links: Vec::new(),
            programs: Vec::new(),
            maps: BTreeMap::new(),
            untracked: attached.untracked,
            end: attached.end,
            plan: attached.plan.clone(),
            results: self.described(),
        };
        for (name, map) in self.maps() {
            let id = pin_to(&directory.join(name), map)?;
            description.maps.insert(name.to_owned(), id);
        }
        for (index, program) in attached.programs.programs().enumerate() {
            let path = directory.join(PROGRAMS).join(index.to_string());
            description.programs.push(pin_to(&path, program)?);
        }
        for (index, link) in attached.links().enumerate() {
            let path = directory.join(LINKS).join(index.to_string());
            let link = link.ok_or(PinError::NoLink)?;
            description.links.push(pin_to(&path, link)?);
        }
        let text = serde_json::to_vec(&description).map_err(PinError::Description)?;
        let map = sys::constant_map(&text, "tracepoints").map_err(PinError::Io)?;
        pin_to(&directory.join(DESCRIPTION), map.as_fd())?;
        Ok(description)
    }
}

impl PinDescription {
    fn read(directory: &Path) -> Result<Self, PinError> {
        let path = directory.join(DESCRIPTION);
        let file = sys::open_pinned(&c_path(&path)?).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PinError::None,
            _ => PinError::Io(error),
        })?;
        let map = OneValueMap::of_descriptor(file).map_err(PinError::Io)?;
        let map = map.ok_or(PinError::None)?;
        let mut text = vec![0; map.size()];
        map.read(&mut text).map_err(PinError::Io)?;
        PinDescription::parse(&text)
    }

    /// Opens the maps and the programs.
    fn open(
        &self,
        directory: &Path,
        failed: impl Fn(PinError) -> ProbeError,
    ) -> Result<PinnedResults, ProbeError> {
        let map = |name: &str| {
            let missing = || PinError::Missing {
                name: name.to_owned(),
            };
            let id = self.maps.get(name).ok_or_else(missing).map_err(&failed)?;
            let map = object(directory, name, *id).map_err(&failed)?;
            let map = MapData::from_fd(map).and_then(Map::from_map_data);
            map.map_err(of_map)
        };
        let mut programs = Attachments::default();
        for (index, id) in self.programs.iter().enumerate() {
            let name = format!("{PROGRAMS}/{index}");
            programs.add_program(object(directory, &name, *id).map_err(&failed)?);
        }
        let attached = Attached {
            programs,
            followed: None,
            counts: PerCpuArray::try_from(map(COUNTS)?).map_err(of_map)?,
            untracked: self.untracked,
            end: self.end,
            plan: self.plan.clone(),
        };
        Ok(match &self.results {
            DescribedResults::Counts { events } => {
                PinnedResults::Counts(Counter::new(events.clone(), attached))
            }
            DescribedResults::Histogram { events, field } => {
                PinnedResults::Histogram(Histogram::new(events.clone(), field.clone(), attached))
            }
            DescribedResults::Groups {
                by,
                measured,
                plans,
            } => PinnedResults::Groups(Box::new(Groups {
                attached,
                map: PerCpuHashMap::try_from(map(GROUPS)?).map_err(of_map)?,
                stacks: match plans.iter().any(GroupPlan::has_stacks) {
                    true => Some(HashMap::try_from(map(STACKS)?).map_err(of_map)?),
                    false => None,
                },
                plans: plans.clone(),
                by: by.clone(),
                measured: measured.clone(),
            })),
            DescribedResults::Records { plans, ids } => PinnedResults::Records(Box::new(Probe {
                attached,
                ring: RingBuf::try_from(map(RING)?).map_err(of_map)?,
                plans: Arc::clone(plans),
                ids: ids.clone(),
                held: AwaitedStrings::default(),
                lost_returns: match self.maps.contains_key(LOST_RETURNS) {
                    true => Some(PerCpuArray::try_from(map(LOST_RETURNS)?).map_err(of_map)?),
                    false => None,
                },
            })),
        })
    }
}

fn of_map(error: MapError) -> ProbeError {
    map_error("opening pinned maps", error)
}

/// Makes the directory and those in it.
fn make_directory(directory: &Path) -> Result<(), PinError> {
    let parent = directory.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    if !is_bpffs(parent.unwrap_or(Path::new(".")))? {
        return Err(PinError::NotBpffs);
    }
    let name = directory.file_name().unwrap_or_default();
    // `bpf_lookup()`, `kernel/bpf/inode.c`.
    if name.as_bytes().contains(&b'.') {
        return Err(PinError::Dot);
    }
    let make = |path: &Path| match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(PinError::Exists),
        result => result.map_err(PinError::Io),
    };
    make(directory)?;
    make(&directory.join(PROGRAMS))?;
    make(&directory.join(LINKS))
}

fn is_bpffs(path: &Path) -> Result<bool, PinError> {
    /// `BPF_FS_MAGIC` of the kernel's `include/uapi/linux/magic.h`.
    const BPFFS: u64 = 0xcafe_4a11;
    let found = rustix::fs::statfs(path).map_err(|error| PinError::Io(error.into()))?;
    // Signed on some machines, and of 32 bits on others.
    Ok(found.f_type as u64 & 0xffff_ffff == BPFFS)
}

/// Locks the directory until the descriptor is closed.
fn locked(directory: &Path) -> Result<OwnedFd, PinError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let of_system = |error: rustix::io::Errno| PinError::Io(error.into());
    let file = rustix::fs::open(directory, flags, Mode::empty()).map_err(of_system)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(PinError::InUse),
        Err(error) => Err(of_system(error)),
    }
}

/// Pins an object, and returns its id.
fn pin_to(path: &Path, object: BorrowedFd<'_>) -> Result<u32, PinError> {
    sys::pin(object, &c_path(path)?).map_err(PinError::Io)?;
    sys::object_id(object).map_err(PinError::Io)
}

/// Opens the object of this id.
fn object(directory: &Path, name: &str, id: u32) -> Result<OwnedFd, PinError> {
    let object = sys::open_pinned(&c_path(&directory.join(name))?);
    let object = object.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PinError::Missing {
            name: name.to_owned(),
        },
        _ => PinError::Io(error),
    })?;
    match sys::object_id(object.as_fd()).map_err(PinError::Io)? == id {
        true => Ok(object),
        false => Err(PinError::Foreign {
            name: name.to_owned(),
        }),
    }
}

fn c_path(path: &Path) -> Result<CString, PinError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|error| PinError::Io(error.into()))
}
