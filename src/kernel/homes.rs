//! The objects, vmlinux or modules, that an event may be at home in.
//!
//! Only a module's BTF tells which events the module has. When an event is asked for that
//! vmlinux does not define, the BTF of all modules is therefore read, once, and the events
//! that each defines are kept.

use std::sync::Arc;

use super::Kernel;
use crate::btf::Object;
use crate::context::{self, FormatReason, Homes};
use crate::error::Error;
use crate::files::{Listing, Modules};
use crate::name::EventName;

/// Limit on events of the same name in other categories that are read to tell their homes
/// apart. Kernels' tracepoints have one such event; kprobes may have some more.
const MAX_NAMESAKES: usize = 64;

impl Kernel {
    /// Returns the objects that the event may be at home in.
    pub(crate) fn homes(&self, name: &EventName) -> Result<Homes, Error> {
        let listing = self.listing_for(std::slice::from_ref(name))?;
        self.homes_by(name, &listing, |event, shared| {
            self.homes_now(event, shared)
        })
    }

    /// Like [`homes`](Self::homes), where `homes` returns the objects that define an
    /// event of a name, given whether categories share that name.
    pub(super) fn homes_by(
        &self,
        name: &EventName,
        listing: &Listing,
        homes: impl Fn(&str, bool) -> Result<Homes, Error>,
    ) -> Result<Homes, Error> {
        let namesakes = listing.namesakes(name).take(MAX_NAMESAKES + 1);
        let namesakes: Vec<&EventName> = namesakes.collect();
        let homes = homes(name.event(), !namesakes.is_empty())?;
        let Homes::Found(found) = homes else {
            return Ok(homes);
        };
        if found.len() > namesakes.len() {
            return Ok(Homes::Found(found));
        }
        if namesakes.len() > MAX_NAMESAKES {
            return Ok(Homes::None(FormatReason::SharedName));
        }
        // There are more events of this name than objects that define one. Events that fit
        // nowhere, such as a kprobe named like the tracepoint beside it, take no home from
        // others.
        let mut rivals = 0;
        for namesake in namesakes {
            let format = self.inner.tracefs.format(namesake)?.map(Arc::new);
            rivals +=
                usize::from(format.is_some_and(|format| context::fits(namesake, &format, &found)));
            if rivals >= found.len() {
                break;
            }
        }
        Ok(match rivals < found.len() {
            true => Homes::Found(found),
            false => Homes::None(FormatReason::SharedName),
        })
    }

    /// Returns the objects that define an event of this name. If vmlinux does, modules
    /// are searched only if the name is `shared` by events of several categories.
    pub(super) fn homes_now(&self, event: &str, shared: bool) -> Result<Homes, Error> {
        let Some(vmlinux) = self.inner.btf.vmlinux()? else {
            return Ok(Homes::None(FormatReason::NoBtf));
        };
        if vmlinux.index().has_event(event) && !shared {
            return Ok(Homes::Found(vec![vmlinux]));
        }
        // The module of this event, or of another one of the same name, may have been
        // loaded since the modules were listed.
        if !shared {
            let modules = self.inner.btf.modules()?;
            let found = self.homes_in(event, &vmlinux, &modules);
            if let Homes::Found(objects) = &found
                && objects
                    .iter()
                    .all(|object| self.inner.btf.is_loaded(object, &modules))
            {
                return Ok(found);
            }
        }
        Ok(self.homes_in(event, &vmlinux, &*self.inner.btf.refreshed()?))
    }

    /// Like [`homes_now`](Self::homes_now) among these modules, even if others were
    /// loaded since.
    pub(super) fn homes_among(
        &self,
        event: &str,
        shared: bool,
        modules: &Modules,
    ) -> Result<Homes, Error> {
        let Some(vmlinux) = self.inner.btf.vmlinux()? else {
            return Ok(Homes::None(FormatReason::NoBtf));
        };
        if vmlinux.index().has_event(event) && !shared {
            return Ok(Homes::Found(vec![vmlinux]));
        }
        Ok(self.homes_in(event, &vmlinux, modules))
    }

    /// Returns the objects, of vmlinux and these modules, that define the event.
    fn homes_in(&self, event: &str, vmlinux: &Arc<Object>, modules: &Modules) -> Homes {
        let mut homes = self.inner.btf.defining(event, vmlinux, modules).to_vec();
        if vmlinux.index().has_event(event) {
            homes.insert(0, Arc::clone(vmlinux));
        }
        if !homes.is_empty() {
            return Homes::Found(homes);
        }
        let unreadable = self.inner.btf.unreadable(vmlinux, modules);
        Homes::None(match modules.is_empty() {
            true if vmlinux.index().event_names().next().is_none() => FormatReason::NoEventsInBtf,
            true => FormatReason::NoModuleBtf,
            false if unreadable.is_empty() => FormatReason::NoHome,
            false => FormatReason::UnreadableModuleBtf {
                modules: unreadable.to_vec(),
            },
        })
    }
}
