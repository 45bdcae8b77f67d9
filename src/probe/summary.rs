//! The counts of all CPUs, together.
//!
//! A program adds up a field's values in 64 bits, which wrap: two addresses of the kernel are
//! enough. But it also keeps how many there were, the smallest and the greatest, between whose
//! multiples the sum lies. Where that range is smaller than 2⁶⁴, it has one number with the 64
//! bits that are left of the sum.

use serde::Serialize;

/// A summary of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// All together, as on paper, however large. `None` if it is not known: of values that are
    /// so many and so far from one another that on one CPU `count × (max - min)` is 2⁶³ or
    /// more, which takes values near both ends of 64 bits, such as hashes.
    pub sum: Option<i128>,
    /// The smallest.
    pub min: i128,
    /// The greatest.
    pub max: i128,
}

/// A group's numbers on one CPU, as a program keeps them: how often, sum, smallest and greatest
/// value.
pub(super) type GroupCounts = [u64; 4];

/// Adds up counts. A sum that does not fit into 64 bits is `u64::MAX`, so that it is not taken
/// for a small one.
pub(super) fn total(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

/// The total of a group, of the CPUs so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupTotal {
    pub(super) count: u64,
    pub(super) summary: Option<Summary>,
}

impl GroupTotal {
    /// Adds what one CPU counted. `is_signed` says what the measured values are; `None` if
    /// none are.
    pub(super) fn add(&mut self, counts: GroupCounts, is_signed: Option<bool>) {
        let [count, low_bits, min, max] = counts;
        if count == 0 {
            return;
        }
        self.count = total([self.count, count]);
        let Some(is_signed) = is_signed else {
            return;
        };
        let number = |value: u64| match is_signed {
            true => i128::from(value as i64),
            false => i128::from(value),
        };
        let (min, max) = (number(min), number(max));
        let sum = sum_of(low_bits, count, min, max);
        self.summary = Some(match self.summary {
            None => Summary { sum, min, max },
            Some(known) => Summary {
                sum: known
                    .sum
                    .zip(sum)
                    .and_then(|(one, two)| one.checked_add(two)),
                min: known.min.min(min),
                max: known.max.max(max),
            },
        });
    }
}

/// Returns the sum of so many values between these, of which the low 64 bits are known; `None`
/// if several have them.
///
/// Events go on while a CPU's counts are read, and the sum may have one value more or less
/// than are counted. So of the numbers with these bits, the nearest to the middle of the range
/// is taken, not only one inside of it, and half of 2⁶⁴ is left for it.
fn sum_of(low_bits: u64, count: u64, min: i128, max: i128) -> Option<i128> {
    let count = i128::from(count);
    let (least, most) = (count.checked_mul(min)?, count.checked_mul(max)?);
    let width = most.checked_sub(least)?;
    if width >= 1 << 63 {
        return None;
    }
    let middle = least.checked_add(width / 2)?;
    let beyond = low_bits.wrapping_sub(middle as u64) as i64;
    middle.checked_add(beyond.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sum_of_counts_stays_at_the_end() {
        assert_eq!(total([]), 0);
        assert_eq!(total([u64::MAX - 2, 1]), u64::MAX - 1);
        assert_eq!(total([u64::MAX - 2, 3, 5]), u64::MAX);
    }

    /// The numbers that the program keeps of these values, whose bits are those of a `u64`.
    fn counted(values: &[u64], is_signed: bool) -> GroupCounts {
        let key = |value: &u64| *value ^ (u64::from(is_signed) << 63);
        let sum = values
            .iter()
            .fold(0_u64, |sum, value| sum.wrapping_add(*value));
        let min = values.iter().copied().min_by_key(key).expect("a value");
        let max = values.iter().copied().max_by_key(key).expect("a value");
        [values.len() as u64, sum, min, max]
    }

    #[test]
    fn a_sum_near_its_wrap() {
        let of = |values: &[u64], is_signed| {
            let mut total = GroupTotal::default();
            total.add(counted(values, is_signed), Some(is_signed));
            let summary = total.summary.expect("one");
            assert_eq!(total.count, values.len() as u64);
            (summary.sum, summary.min, summary.max)
        };
        let top = i128::from(u64::MAX);
        // Addresses of the kernel.
        let address = 0xffff_8880_0123_4567;
        assert_eq!(
            of(&[address, address + 16], false).0,
            Some(2 * i128::from(address) + 16)
        );
        assert_eq!(of(&[u64::MAX; 3], false), (Some(3 * top), top, top));
        assert_eq!(of(&[u64::MAX; 3], true), (Some(-3), -1, -1));
        let low = i64::MIN as u64;
        let lowest = i128::from(i64::MIN);
        assert_eq!(of(&[low; 5], true), (Some(5 * lowest), lowest, lowest));
        // Several sums have these bits.
        assert_eq!(of(&[0, u64::MAX], false), (None, 0, top));
        assert_eq!(of(&[low, i64::MAX as u64], true).0, None);
        // The greatest range that is known.
        assert_eq!(of(&[0, (1 << 62) - 1], false).0, Some((1 << 62) - 1));
        assert_eq!(of(&[0, 1 << 62], false).0, None);
    }

    /// CPUs that have counted for very long, and as often as can be counted.
    #[test]
    fn counts_near_their_wrap() {
        let mut total = GroupTotal::default();
        let nearly = u64::MAX - 1;
        total.add([nearly, nearly.wrapping_mul(7), 7, 7], Some(false));
        let sum = i128::from(nearly) * 7;
        assert_eq!(total.summary.expect("one").sum, Some(sum));
        total.add([5, 35, 7, 7], Some(false));
        assert_eq!(total.count, u64::MAX);
        assert_eq!(total.summary.expect("one").sum, Some(sum + 35));
        // The sum does not fit.
        total.add([u64::MAX, 1, u64::MAX, u64::MAX], Some(false));
        assert_eq!(total.summary.expect("one").sum, None);
        assert_eq!(total.count, u64::MAX);
    }

    proptest! {
        /// A sum is that of the values, or not known; and it is known if they are near one
        /// another, also while one more or less is added.
        #[test]
        fn the_sum_is_that_of_the_values(
            near in any::<u64>(),
            offsets in prop::collection::vec(any::<u64>(), 1..40),
            bits in 0_u32..64,
            is_signed in any::<bool>(),
        ) {
            let values: Vec<u64> =
                offsets.iter().map(|one| near.wrapping_add(one >> bits)).collect();
            let number = |value: u64| match is_signed {
                true => i128::from(value as i64),
                false => i128::from(value),
            };
            let exact: i128 = values.iter().map(|value| number(*value)).sum();
            let mut total = GroupTotal::default();
            let counts = counted(&values, is_signed);
            total.add(counts, Some(is_signed));
            let Summary { sum, min, max } = total.summary.expect("one");
            prop_assert!(sum.is_none_or(|sum| sum == exact));
            let width = (max - min) * values.len() as i128;
            prop_assert_eq!(sum.is_some(), width < 1 << 63);
            if number(values[0]).abs() < 1 << 60 && width < 1 << 60 {
                // The value of an event that is not yet counted, and one that is not yet added.
                for (low_bits, exact) in [
                    (counts[1].wrapping_add(values[0]), exact + number(values[0])),
                    (counts[1].wrapping_sub(values[0]), exact - number(values[0])),
                ] {
                    prop_assert_eq!(sum_of(low_bits, counts[0], min, max), Some(exact));
                }
            }
        }
    }
}
