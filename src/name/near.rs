//! Similar names, for messages about names that do not exist.

use super::EventName;
use super::likeness::likeness;

/// Returns at most three names of events that `text` may be a misspelling of, nearest
/// first.
pub(crate) fn near(text: &str, names: &[EventName]) -> Vec<EventName> {
    /// At most one letter in four may differ.
    const ALIKE: f64 = 0.75;
    /// Names whose likeness is within this of the nearest one's are listed with it.
    const AS_NEAR: f64 = 0.05;
    let event = text.rsplit(':').next().unwrap_or(text);
    // Names that differ more in length alone need not be compared.
    let alike = |a: &str, b: &str| {
        let (short, long) = (a.len().min(b.len()), a.len().max(b.len()));
        match short as f64 >= ALIKE * long as f64 {
            true => likeness(a, b),
            false => 0.0,
        }
    };
    let score = |name: &EventName| match text.contains(':') {
        // A common mistake: the right event in the wrong category.
        true if name.event() == event => 1.0,
        true => alike(text, name.as_str()),
        false => alike(text, name.event()),
    };
    let scored = names.iter().map(|name| (score(name), name));
    let mut scored: Vec<(f64, &EventName)> = scored.filter(|(score, _)| *score >= ALIKE).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    let best = scored.first().map_or(0.0, |(score, _)| *score);
    if scored.is_empty() {
        return holding(event, names);
    }
    scored
        .into_iter()
        .take_while(|(score, _)| *score >= best - AS_NEAR)
        .take(3)
        .map(|(_, name)| name.clone())
        .collect()
}

/// Returns at most three names of events that contain `text`, the shortest first.
fn holding(text: &str, names: &[EventName]) -> Vec<EventName> {
    let text = text.to_ascii_lowercase();
    let holds =
        |name: &&EventName| text.len() >= 3 && name.event().to_ascii_lowercase().contains(&text);
    let mut names: Vec<&EventName> = names.iter().filter(holds).collect();
    names.sort_by_key(|name| (name.event().len(), *name));
    names.into_iter().take(3).cloned().collect()
}
