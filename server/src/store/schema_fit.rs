//! Whether a program fits a schema that another release may have migrated.

use super::StoreError;

/// How the schema of a database stands to the migrations of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaFit {
    /// The program knows all that was applied; something may be missing.
    Known,
    /// Everything of the program's is there, and newer migrations, of which this is the last.
    Newer(i64),
}

/// Compares the migrations that were `applied` with those that the program knows.
///
/// # Errors
/// [`StoreError::OtherSchema`] if the database has a migration that the program does not know, and is not simply ahead
/// of it: then nothing may be added to it.
pub fn fit(applied: &[i64], known: &[i64]) -> Result<SchemaFit, StoreError> {
    let strangers = applied.iter().filter(|version| !known.contains(version));
    let (Some(first), Some(last)) = (strangers.clone().min(), strangers.max()) else {
        return Ok(SchemaFit::Known);
    };
    let newest = newest(known);
    let is_ahead = *first > newest && known.iter().all(|version| applied.contains(version));
    if is_ahead {
        Ok(SchemaFit::Newer(*last))
    } else {
        Err(StoreError::OtherSchema {
            found: *first,
            known: newest,
        })
    }
}

/// Whether a program may use a schema of version `found` whose mark says which migration a program `needs` to know.
///
/// # Errors
/// [`StoreError::NewerSchema`] if it may not.
pub fn admit(found: i64, needs: i64, known: &[i64]) -> Result<(), StoreError> {
    let known = newest(known);
    if needs <= known {
        Ok(())
    } else {
        Err(StoreError::NewerSchema {
            found,
            needs,
            known,
        })
    }
}

fn newest(versions: &[i64]) -> i64 {
    versions.iter().copied().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_is_behind_is_known() {
        assert!(matches!(fit(&[], &[1, 2]), Ok(SchemaFit::Known)));
        assert!(matches!(fit(&[1], &[1, 2]), Ok(SchemaFit::Known)));
        assert!(matches!(fit(&[1, 2], &[1, 2]), Ok(SchemaFit::Known)));
    }

    #[test]
    fn a_schema_that_is_ahead_is_newer() {
        assert!(matches!(
            fit(&[1, 2, 4, 3], &[1, 2]),
            Ok(SchemaFit::Newer(4))
        ));
    }

    #[test]
    fn a_schema_of_another_line_is_not_touched() {
        // ahead, but without one of ours; and with one that is older than ours
        for applied in [&[1, 3][..], &[1, 2, 4]] {
            let fitted = fit(applied, &[1, 2, 5]);
            assert!(
                matches!(fitted, Err(StoreError::OtherSchema { known: 5, .. })),
                "{fitted:?}"
            );
        }
    }

    #[test]
    fn the_mark_decides_who_may_use_it() {
        assert!(admit(9, 7, &[6, 7]).is_ok());
        let refused = admit(9, 8, &[6, 7]);
        assert!(matches!(
            refused,
            Err(StoreError::NewerSchema {
                found: 9,
                needs: 8,
                known: 7
            })
        ));
    }
}
