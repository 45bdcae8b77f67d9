//! Events for which several classes fit, decided by the rules, by the kernel's own word,
//! or by inference.

use std::sync::Arc;

use super::resolve::{Homes, MAX_CANDIDATES, agrees, resolve_alone};
use super::rules::{self, Proof, Rule, Witness};
use super::{Context, Evidence, Inference, KernelSource};
use crate::btf::{Class, Object, TypeId};
use crate::format::Format;
use crate::name::EventName;

/// Questions that resolution asks the kernel, in this order, if an event's format and BTF
/// leave several classes.
pub(crate) trait KernelSays {
    /// Returns the event of this name that the object defines, if no other category has
    /// one of that name and no other object defines one.
    fn witness(&self, event: &str, object: &Arc<Object>) -> Option<Witness>;

    /// Returns the id of the context's struct, from the event's `btf_ids` file.
    fn type_id(&self) -> Option<TypeId>;

    /// Returns the name of the event's class, from the running kernel's memory.
    fn class_in_memory(&self) -> Option<String>;

    /// Returns the name of the event's class and its source, from a capture's `classes`
    /// file or from the kernel's image.
    fn recorded_class(&self) -> Option<(String, KernelSource)>;

    /// Whether every event that the object defines, and whose class is proven, is in the
    /// header run of its class.
    fn obeys_header_runs(&self, object: &Arc<Object>) -> bool;
}

/// A kernel that answers no question.
pub(crate) struct Silence;

impl KernelSays for Silence {
    fn witness(&self, _: &str, _: &Arc<Object>) -> Option<Witness> {
        None
    }

    fn type_id(&self) -> Option<TypeId> {
        None
    }

    fn class_in_memory(&self) -> Option<String> {
        None
    }

    fn recorded_class(&self) -> Option<(String, KernelSource)> {
        None
    }

    fn obeys_header_runs(&self, _: &Arc<Object>) -> bool {
        false
    }
}

/// A class that fits, and the object whose BTF has its struct.
pub(super) struct Candidate {
    pub(super) object: Arc<Object>,
    pub(super) class: Class,
}

/// The most candidates with which witnesses of the base's classes are searched: the search
/// reads many formats. Kernels have at most some ten candidates.
const MAX_OF_BASE: usize = 32;

/// An event that several classes of its home fit.
pub(crate) struct Undecided {
    name: EventName,
    home: Arc<Object>,
    /// Sorted by name, the home's before its base's.
    candidates: Vec<Candidate>,
}

impl Undecided {
    /// Makes an event that is to be decided. `candidates` are sorted by name, the home's
    /// before its base's.
    pub(super) fn new(name: &EventName, home: &Arc<Object>, candidates: Vec<Candidate>) -> Self {
        Self {
            name: name.clone(),
            home: Arc::clone(home),
            candidates,
        }
    }

    /// Decides by the rules, then by the kernel's own word, then by inference.
    pub(crate) fn decide(&self, format: &Arc<Format>, kernel_says: &dyn KernelSays) -> Context {
        let answer = |evidence, candidate: &Candidate, candidates| {
            let (object, class) = (&candidate.object, &candidate.class);
            let mut context = Context::of_class(&self.name, format, evidence, object, class);
            context.of.candidates = candidates;
            context
        };
        let all: Vec<&Candidate> = self.candidates.iter().collect();
        let (left, proof) = self.exclude(all, format, kernel_says);
        if let Some(proof) = proof {
            return answer(Evidence::Template(proof), left[0], Vec::new());
        }
        let mut names: Vec<String> = left
            .iter()
            .map(|candidate| candidate.class.name().to_owned())
            .collect();
        names.dedup();
        let said = self.said_by_kernel(&left, kernel_says);
        if let Some((said, source)) = said {
            return answer(Evidence::Kernel(source), said, names);
        }
        match self.infer(&left, kernel_says) {
            Some((inferred, how)) => answer(Evidence::Inferred(how), inferred, names),
            None => answer(Evidence::Ambiguous, left[0], names),
        }
    }

    /// Whether the rules prove that this is the event's class.
    fn is_proven_of(&self, class: &Class, format: &Format, kernel_says: &dyn KernelSays) -> bool {
        let all = self.candidates.iter().collect();
        let (left, proof) = self.exclude(all, format, kernel_says);
        proof.is_some() && left[0].class.name() == class.name()
    }

    /// Returns the candidates that no rule excludes, and the proof if all have the same
    /// name.
    ///
    /// If the rules exclude all candidates, the format file and BTF contradict each other,
    /// and prove nothing.
    fn exclude<'a>(
        &self,
        all: Vec<&'a Candidate>,
        format: &Format,
        kernel_says: &dyn KernelSays,
    ) -> (Vec<&'a Candidate>, Option<Proof>) {
        let mut proof = Proof::default();
        let keep = |proof: &mut Proof, rule: Option<Rule>| {
            rule.into_iter().for_each(|rule| proof.add(rule));
            rule.is_none()
        };
        let mut left = all.clone();
        left.retain(|candidate| keep(&mut proof, self.by_types(format, candidate)));
        if left.is_empty() {
            return (all, None);
        }
        if !is_one_class(&left) {
            let by_types = left.clone();
            left.retain(|candidate| {
                let rule = self.by_witness(format, candidate, kernel_says);
                keep(&mut proof, rule)
            });
            if left.is_empty() {
                return (by_types, None);
            }
        }
        let is_proven = is_one_class(&left);
        (left, is_proven.then_some(proof))
    }

    /// Returns the rule that excludes the class by BTF and the event's own format.
    fn by_types(&self, format: &Format, candidate: &Candidate) -> Option<Rule> {
        let (home, class) = (&self.home, &candidate.class);
        if rules::has_other_field_types(format, home, class) {
            Some(Rule::FieldType)
        } else if rules::cannot_take_arguments(home, self.name.event(), class) {
            Some(Rule::Prototype)
        } else {
            None
        }
    }

    /// Returns the rule that excludes the class by comparing the event with a witness.
    fn by_witness(
        &self,
        format: &Format,
        candidate: &Candidate,
        kernel_says: &dyn KernelSays,
    ) -> Option<Rule> {
        let (home, object) = (&self.home, &candidate.object);
        if !Arc::ptr_eq(home, object) {
            if self.candidates.len() > MAX_OF_BASE {
                return None;
            }
            let witness = event_of_class(candidate, kernel_says)?;
            return rules::is_of_other_category(&self.name, &witness).then_some(Rule::Category);
        }
        let witness = &witness_of(candidate, kernel_says)?;
        if rules::is_of_other_category(&self.name, witness) {
            Some(Rule::Category)
        } else if rules::has_other_field_lines(format, witness) {
            Some(Rule::FieldText)
        } else if rules::cannot_share_function(home, self.name.event(), witness) {
            Some(Rule::SiblingPrototype)
        } else if rules::has_other_print_fmt(&self.name, format, home, witness) {
            Some(Rule::PrintFmt)
        } else {
            None
        }
    }

    fn said_by_kernel<'a>(
        &self,
        left: &[&'a Candidate],
        kernel_says: &dyn KernelSays,
    ) -> Option<(&'a Candidate, KernelSource)> {
        let find = |is_it: &dyn Fn(&Class) -> bool| {
            let mut left = left.iter().copied();
            left.find(|candidate| is_it(&candidate.class))
        };
        if let Some(id) = kernel_says.type_id()
            && let Some(said) = find(&|class| class.struct_id == id)
        {
            return Some((said, KernelSource::BtfIds));
        }
        if let Some(name) = kernel_says.class_in_memory()
            && let Some(said) = find(&|class| class.name() == name)
        {
            return Some((said, KernelSource::Memory));
        }
        let (name, source) = kernel_says.recorded_class()?;
        Some((find(&|class| class.name() == name)?, source))
    }

    /// Infers a class by R ([`Inference::HeaderRun`]), then by U
    /// ([`Inference::OnlyTemplate`]).
    fn infer<'a>(
        &self,
        left: &[&'a Candidate],
        kernel_says: &dyn KernelSays,
    ) -> Option<(&'a Candidate, Inference)> {
        if let Some(inferred) = self.in_header_run(left)
            && kernel_says.obeys_header_runs(&self.home)
        {
            return Some((inferred, Inference::HeaderRun));
        }
        let is_own = |class: &Class| {
            let mut objects = std::iter::once(&self.home).chain(self.home.base());
            objects.any(|object| object.index().has_event(class.name()))
        };
        let mut templates = left
            .iter()
            .copied()
            .filter(|candidate| !is_own(&candidate.class));
        match (templates.next(), templates.next()) {
            (Some(template), None) => Some((template, Inference::OnlyTemplate)),
            _ => None,
        }
    }

    /// Returns the only candidate in the event's header run.
    fn in_header_run<'a>(&self, left: &[&'a Candidate]) -> Option<&'a Candidate> {
        let (index, section) = (self.home.index(), self.home.section());
        let run = index.header_run_of_event(section, self.name.event())?;
        let mut inside = Vec::new();
        for candidate in left {
            // The base's strings may also have the names of this object's classes.
            if !Arc::ptr_eq(&candidate.object, &self.home) {
                return None;
            }
            if index.header_run_of_class(section, &candidate.class)? == run {
                inside.push(*candidate);
            }
        }
        is_one_class(&inside).then(|| inside[0])
    }
}

/// Whether the class of an event is in the event's header run. Also true if nothing can be
/// compared: the class is not proven, is not the object's, or has no known run.
pub(crate) fn is_in_header_run(context: &Context, object: &Arc<Object>) -> bool {
    let (index, section) = (object.index(), object.section());
    let (Some(home), Some(types)) = (&context.of.home, &context.of.types) else {
        return true;
    };
    if !context.evidence().is_proof() || !Arc::ptr_eq(home, object) {
        return true;
    }
    let Some(class) = context.class() else {
        return true;
    };
    let mut classes = index.classes_named(class).iter();
    let Some(class) = classes.find(|class| class.struct_id == types.layout_of) else {
        return true;
    };
    let runs = index
        .header_run_of_event(section, context.name.event())
        .zip(index.header_run_of_class(section, class));
    runs.is_none_or(|(event, class)| event == class)
}

/// Whether there is at least one candidate, and all have the same name.
fn is_one_class(candidates: &[&Candidate]) -> bool {
    candidates.split_first().is_some_and(|(first, rest)| {
        let name = first.class.name();
        rest.iter().all(|other| other.class.name() == name)
    })
}

/// Returns the witness of a class, if it certainly belongs to the class: only one struct
/// has the class's name, and the witness's format has the layout of that struct.
fn witness_of(candidate: &Candidate, kernel_says: &dyn KernelSays) -> Option<Witness> {
    let Candidate { object, class } = candidate;
    let index = object.index();
    let is_only = index.classes_named(class.name()).len() == 1;
    if !is_only || !index.has_event(class.name()) {
        return None;
    }
    let witness = kernel_says.witness(class.name(), object)?;
    agrees(&witness.format, object, class.struct_id).then_some(witness)
}

/// Returns an event that is proven to belong to a class of vmlinux, which an event of a
/// module fits too.
///
/// The event may have any name, because only its category is compared, and all events of a
/// class are in the category of the header that defines the class.
///
/// This assumes that no module defines, in a header of another category, a class that has
/// the name and exactly the members of a class of vmlinux: split BTF would not contain
/// such a class. On no captured kernel has the assumption led to a wrong class.
fn event_of_class(candidate: &Candidate, kernel_says: &dyn KernelSays) -> Option<Witness> {
    let Candidate { object, class } = candidate;
    let arguments = Some(class.prototype()?);
    let mut events: Vec<&str> = object.index().events_taking(arguments).collect();
    events.sort_unstable();
    let is_of_class = |witness: &Witness| {
        let home = Homes::Found(vec![Arc::clone(object)]);
        match resolve_alone(&witness.name, &witness.format, home) {
            Ok(context) => context.class() == Some(class.name()),
            // vmlinux has no base, so this does not recurse.
            Err(undecided) => undecided.is_proven_of(class, &witness.format, kernel_says),
        }
    };
    events.iter().take(MAX_CANDIDATES).find_map(|event| {
        let witness = kernel_says.witness(event, object);
        witness.filter(is_of_class)
    })
}
