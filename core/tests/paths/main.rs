//! Paths of a session's files against their law, for texts that are nearly paths.

mod law;

use proptest::prelude::*;

/// Texts made of what matters to paths, so that clean and nearly clean ones are frequent.
fn nearly_a_path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        5 => Just("/".to_owned()),
        4 => "[a-c]{1,3}",
        2 => Just(".".to_owned()),
        1 => Just("..".to_owned()),
        1 => Just(".tasks".to_owned()),
        1 => Just("\0".to_owned()),
        1 => Just("\u{85}".to_owned()),
        1 => Just("ü".to_owned()),
        1 => "x{200,300}",
        1 => any::<char>().prop_map(|letter| letter.to_string()),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Clean paths only.
fn clean_path() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-z.]{0,3}[a-z]", 0..6)
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_clean_path_or_refused(text in any::<String>()) {
        law::check(&text);
    }

    #[test]
    fn nearly_a_path_is_judged_by_the_same_rules(text in nearly_a_path()) {
        law::check(&text);
        law::check(&format!("/{text}"));
    }

    #[test]
    fn clean_paths_pass(text in clean_path()) {
        prop_assert!(text.parse::<taskyard_core::vfs::SessionPath>().is_ok());
        law::check(&text);
    }
}
