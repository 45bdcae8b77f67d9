//! The likeness of two names.

/// Returns the likeness of two names, from 0 (nothing in common) to 1 (equal): the share
/// of letters that need not be inserted, deleted, replaced or swapped with the next to
/// turn one into the other.
pub(crate) fn likeness(one: &str, other: &str) -> f64 {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    // The last two rows of distances between prefixes of both names: `before`, then `row`.
    let mut row: Vec<usize> = (0..=other.len()).collect();
    let mut before = row.clone();
    for (i, &left) in one.iter().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut distance = i + 1;
        next.push(distance);
        for (j, &right) in other.iter().enumerate() {
            let replaced = row[j] + usize::from(left != right);
            distance = replaced.min(row[j + 1] + 1).min(distance + 1);
            if i > 0 && j > 0 && left == other[j - 1] && right == one[i - 1] {
                distance = distance.min(before[j - 1] + 1);
            }
            next.push(distance);
        }
        before = std::mem::replace(&mut row, next);
    }
    match one.len().max(other.len()) {
        0 => 1.0,
        longest => 1.0 - row[other.len()] as f64 / longest as f64,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The strsim crate has the same distance, with the same restriction: letters
        /// that were swapped are not edited again.
        #[test]
        fn likeness_is_that_of_the_strsim_crate(one in "[a-c]{0,12}", other in "[a-cä]{0,12}") {
            let distance = strsim::osa_distance(&one, &other);
            let longest = one.chars().count().max(other.chars().count()).max(1);
            let expected = 1.0 - distance as f64 / longest as f64;
            prop_assert_eq!(likeness(&one, &other), expected);
        }
    }
}
