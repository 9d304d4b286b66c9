//! What holds for every text, as a path: run by proptest here and by the fuzzer in `fuzz/`.

use std::path::{Component, Path};
use taskyard_core::vfs::{PathError, RelativePath, SessionPath};

/// Panics where a text breaks the law.
pub fn check(text: &str) {
    match text.parse::<SessionPath>() {
        Ok(path) => check_clean(text, &path),
        Err(problem) => check_refused(text, problem),
    }
    check_relative(text);
}

fn check_clean(text: &str, path: &SessionPath) {
    assert!(is_clean(text), "{text:?} is not clean");
    assert_eq!(path.as_str(), text, "a path is never changed");
    let joined: String = path.parts().flat_map(|part| ["/", part]).collect();
    assert!(joined == text || (path.is_root() && joined.is_empty()));
    // below any directory it stays there, as the file system understands it
    let components: Vec<Component> = Path::new(text).components().skip(1).collect();
    assert_eq!(components.len(), path.parts().count());
    assert!(
        components
            .iter()
            .all(|part| matches!(part, Component::Normal(_)))
    );
    assert_eq!(
        path.is_system(),
        text == "/.tasks" || text.starts_with("/.tasks/")
    );
    // what lies below a folder is what starts with its prefix
    let below = format!("{}x", path.folder_prefix());
    match below.parse::<SessionPath>() {
        Ok(below) => {
            assert_eq!(below.parts().count(), path.parts().count() + 1);
            assert_eq!(
                below.is_system(),
                path.is_system() || below.as_str() == "/.tasks"
            );
        }
        Err(problem) => assert_eq!(problem, PathError::TooLong),
    }
}

fn check_refused(text: &str, problem: PathError) {
    assert!(!is_clean(text), "{text:?} is clean, and refused: {problem}");
    let parts = || text.split('/').skip(1);
    match problem {
        PathError::NotAbsolute => assert!(!text.starts_with('/')),
        PathError::EmptyPart => assert!(parts().any(str::is_empty)),
        PathError::DotPart => assert!(parts().any(|part| part == "." || part == "..")),
        PathError::ControlCharacter => assert!(text.chars().any(char::is_control)),
        PathError::TooLong => {
            assert!(text.len() > 1_024 || parts().any(|part| part.len() > 255));
        }
    }
}

fn check_relative(text: &str) {
    let absolute = format!("/{text}").parse::<SessionPath>();
    let relative = text.parse::<RelativePath>();
    assert_eq!(
        relative.is_ok(),
        !text.is_empty() && absolute.is_ok(),
        "{text:?}"
    );
    let Ok(relative) = relative else { return };
    assert_eq!(relative.as_str(), text);
    for folder in ["/", "/a", "/.tasks/b"] {
        let folder: SessionPath = folder.parse().expect("a clean folder");
        match relative.below(&folder) {
            Ok(path) => {
                assert!(path.as_str().starts_with(&folder.folder_prefix()));
                assert_eq!(RelativePath::of(&path, &folder), Some(relative.clone()));
            }
            Err(problem) => assert_eq!(problem, PathError::TooLong),
        }
    }
}

/// The rules once more, written in another way.
fn is_clean(text: &str) -> bool {
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.len() <= 255
            && part.chars().all(|letter| !letter.is_control())
    };
    text == "/"
        || (text.len() <= 1_024 && text.starts_with('/') && text[1..].split('/').all(is_part))
}
