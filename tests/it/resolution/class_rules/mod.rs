//! Which of several classes an event has: each rule, the kernel's own word and each
//! inference, on kernels made for one question each.

mod settled;
mod types;
mod witnesses;

use super::{Types, capture};
use tracepoints::context::{Inference, Rule};
use tracepoints::{Context, Evidence};

const INFERRED: Evidence = Evidence::Inferred(Inference::OnlyTemplate);

/// The rules that prove the context's class, if its evidence is `template`.
fn rules(context: &Context) -> Option<Vec<Rule>> {
    Some(context.evidence().because()?.rules().collect())
}

/// Classes `own`, with an event of its name, and `template`.
fn own_and_template() -> Types {
    let mut types = Types::new();
    types.class("own", &[types.int]);
    types.class("template", &[types.int]);
    types.event("own", &[types.int]);
    types.event("event", &[types.int]);
    types
}
