//! Labels whose values callers choose: at most so many, and so many sets of them; the rest together as `other`.

use std::collections::BTreeMap;

/// The value in place of those that are too many.
pub const OTHER: &str = "other";
/// Most values of one label that callers choose.
pub const MAX_VALUES: usize = 50;

/// Most sets of values of labels that callers choose. Three labels of 50 values each would be 125,000.
pub const MAX_SETS: usize = 1_000;
/// Most series of one metric: the sets, the joined ones, and both in each of at most five states. What the instruments
/// are told to keep; beyond it they lose values.
pub const MAX_SERIES: usize = 5 * (MAX_SETS + 1);

/// Keeps, of each of these labels, the values with the largest weight, and of what is left the sets of values with the
/// largest; the rows of all others are joined under [`OTHER`]. `weight` says how much a row counts, `join` adds one row to
/// another.
pub fn capped<T>(
    rows: Vec<(Vec<String>, T)>,
    capped_labels: &[usize],
    weight: impl Fn(&T) -> i64,
    join: impl Fn(&mut T, &T),
) -> Vec<(Vec<String>, T)> {
    let mut rows = rows;
    for &label in capped_labels {
        let mut weights: BTreeMap<String, i64> = BTreeMap::new();
        for (labels, row) in &rows {
            if let Some(value) = labels.get(label) {
                *weights.entry(value.clone()).or_default() += weight(row);
            }
        }
        if weights.len() <= MAX_VALUES {
            continue;
        }
        let mut ranked: Vec<(String, i64)> = weights.into_iter().collect();
        ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let kept: std::collections::BTreeSet<String> = ranked
            .into_iter()
            .take(MAX_VALUES)
            .map(|(value, _)| value)
            .collect();
        for (labels, _) in &mut rows {
            if let Some(value) = labels.get_mut(label)
                && !kept.contains(value)
            {
                OTHER.clone_into(value);
            }
        }
        rows = joined(rows, &join);
    }
    if rows.len() > MAX_SETS {
        rows.sort_by(|a, b| weight(&b.1).cmp(&weight(&a.1)).then_with(|| a.0.cmp(&b.0)));
        for (labels, _) in rows.iter_mut().skip(MAX_SETS) {
            for &label in capped_labels {
                if let Some(value) = labels.get_mut(label) {
                    OTHER.clone_into(value);
                }
            }
        }
        rows = joined(rows, &join);
    }
    rows
}

/// Rows with the same labels become one.
fn joined<T>(rows: Vec<(Vec<String>, T)>, join: &impl Fn(&mut T, &T)) -> Vec<(Vec<String>, T)> {
    let mut joined: BTreeMap<Vec<String>, T> = BTreeMap::new();
    for (labels, row) in rows {
        match joined.get_mut(&labels) {
            Some(before) => join(before, &row),
            None => drop(joined.insert(labels, row)),
        }
    }
    joined.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_keep_their_names_and_nothing_is_lost() {
        let rows: Vec<(Vec<String>, i64)> = (0..200)
            .map(|n| (vec![format!("queue-{n}"), "command".to_owned()], n))
            .collect();
        let total: i64 = rows.iter().map(|(_, n)| n).sum();
        let capped = capped(rows, &[0, 1], |n| *n, |sum, n| *sum += n);
        assert_eq!(capped.len(), MAX_VALUES + 1);
        assert_eq!(capped.iter().map(|(_, n)| n).sum::<i64>(), total);
        let named = |name: &str| capped.iter().any(|(labels, _)| labels[0] == name);
        assert!(named("queue-199") && named(OTHER) && !named("queue-3"));
    }

    #[test]
    fn sets_of_values_are_capped_as_well_and_nothing_is_lost() {
        let rows: Vec<(Vec<String>, i64)> = (0..50)
            .flat_map(|namespace| (0..50).map(move |queue| (namespace, queue)))
            .map(|(namespace, queue)| {
                let labels = vec![format!("n-{namespace}"), format!("q-{queue}")];
                (labels, 1 + i64::from(namespace == 49))
            })
            .collect();
        let total: i64 = rows.iter().map(|(_, n)| n).sum();
        let capped = capped(rows, &[0, 1], |n| *n, |sum, n| *sum += n);
        assert_eq!(capped.len(), MAX_SETS + 1);
        assert_eq!(capped.iter().map(|(_, n)| n).sum::<i64>(), total);
        let of_the_largest = capped.iter().filter(|(labels, _)| labels[0] == "n-49");
        assert_eq!(of_the_largest.count(), 50);
    }

    #[test]
    fn few_are_left_alone() {
        let rows = vec![(vec!["b".to_owned()], 1_i64), (vec!["a".to_owned()], 2)];
        assert_eq!(capped(rows.clone(), &[0], |n| *n, |sum, n| *sum += n), rows);
    }
}
