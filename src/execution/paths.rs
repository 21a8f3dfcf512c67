//! Where a path that a client names leads to: pure text, no file system is looked at.
//!
//! The sandbox resolves symbolic links by itself and is not trusted to do it well; these rules
//! only keep a client's own mistake, or a guess, from meaning something else than it says.

/// The directory that relative paths, and all paths of an execution's files, lie in.
pub const WORKSPACE: &str = "/workspace";

/// The directories that programs may write to: [`WORKSPACE`], and what it does not hold.
pub const VOLUMES: [&str; 3] = [WORKSPACE, "/tmp", "/home/sandbox"];

/// Longest path in bytes: Linux takes 4096 with the NUL at its end.
pub const MAX_PATH_BYTES: usize = 4095;

/// Longest component of a path in bytes, as on Linux's own file systems.
pub const MAX_COMPONENT_BYTES: usize = 255;

/// Why a path is refused. The text is a predicate: it follows the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A file needs a name.
    #[error("is empty: give a path relative to the working directory, or one within {WORKSPACE}")]
    Empty,
    /// A file was asked for, and this can only be a directory.
    #[error("names a directory: give the path of a file")]
    Directory,
    /// '..', wherever it leads: with links in between nobody can tell.
    #[error("holds '..', which is refused even where it stays within {WORKSPACE}: leave it out")]
    Parent,
    /// An absolute path to somewhere else.
    #[error("is outside {WORKSPACE}: give a relative path, or one within {WORKSPACE}")]
    Outside,
    /// An absolute path to none of [`VOLUMES`].
    #[error(
        "is in none of {}, {} and {}: give a path relative to {WORKSPACE}, or one within them",
        VOLUMES[0], VOLUMES[1], VOLUMES[2]
    )]
    OutsideVolumes,
    /// No file system can hold it.
    #[error("holds a NUL: leave it out")]
    Nul,
    /// Over [`MAX_PATH_BYTES`], as given or once it is absolute.
    #[error("is too long: {0} bytes, where at most {MAX_PATH_BYTES} are allowed")]
    TooLong(usize),
    /// Over [`MAX_COMPONENT_BYTES`].
    #[error(
        "has a component of {0} bytes between its slashes, where at most {MAX_COMPONENT_BYTES} are allowed"
    )]
    ComponentTooLong(usize),
}

/// The directory that `given` means, absolute and normalised: relative to [`WORKSPACE`], or an
/// absolute path to it or below it. "" is the workspace itself.
pub fn directory(given: &str) -> Result<String, PathError> {
    within_workspace(resolve(given, WORKSPACE)?)
}

/// The path that `given` means, absolute and normalised: relative to [`WORKSPACE`], or an absolute
/// one to one of [`VOLUMES`] or below it.
pub fn anywhere(given: &str) -> Result<String, PathError> {
    if given.is_empty() {
        return Err(PathError::Empty);
    }
    let path = resolve(given, WORKSPACE)?;
    if VOLUMES.iter().any(|volume| is_within(&path, volume)) {
        Ok(path)
    } else {
        Err(PathError::OutsideVolumes)
    }
}

/// The file that `given` means, absolute and normalised: relative to `directory`, which is one
/// that [`directory()`] returned, or an absolute path below [`WORKSPACE`].
pub fn file(given: &str, directory: &str) -> Result<String, PathError> {
    if given.is_empty() {
        return Err(PathError::Empty);
    }
    let path = within_workspace(resolve(given, directory)?)?;
    // "data/" would be a file named data: whoever wrote it means something else.
    let last = given.rsplit('/').next().unwrap_or_default();
    if path == WORKSPACE || matches!(last, "" | ".") {
        return Err(PathError::Directory);
    }
    Ok(path)
}

/// Whether `path` is `directory` or lies below it; both absolute and normalised.
#[must_use]
pub fn is_within(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn resolve(given: &str, base: &str) -> Result<String, PathError> {
    if given.contains('\0') {
        return Err(PathError::Nul);
    }
    check_length(given)?;
    let mut path = if given.starts_with('/') {
        String::new()
    } else {
        base.to_owned()
    };
    for component in given.split('/') {
        match component {
            "" | "." => {}
            ".." => return Err(PathError::Parent),
            name if name.len() > MAX_COMPONENT_BYTES => {
                return Err(PathError::ComponentTooLong(name.len()));
            }
            name => {
                path.push('/');
                path.push_str(name);
            }
        }
    }
    check_length(&path)?;
    Ok(path)
}

fn within_workspace(path: String) -> Result<String, PathError> {
    if is_within(&path, WORKSPACE) {
        Ok(path)
    } else {
        Err(PathError::Outside)
    }
}

fn check_length(path: &str) -> Result<(), PathError> {
    if path.len() > MAX_PATH_BYTES {
        return Err(PathError::TooLong(path.len()));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_relative_directory_lies_in_the_workspace() {
        assert_eq!(directory("a/b").unwrap(), "/workspace/a/b");
    }

    #[test]
    fn an_empty_directory_is_the_workspace() {
        for same in ["", ".", "./", "/workspace", "/workspace/", "//workspace//."] {
            assert_eq!(directory(same).unwrap(), WORKSPACE, "{same:?}");
        }
    }

    #[test]
    fn dots_and_doubled_slashes_vanish() {
        assert_eq!(
            file("./a//b/./c", "/workspace/d").unwrap(),
            "/workspace/d/a/b/c"
        );
    }

    #[test]
    fn a_path_of_any_volume_is_taken_and_no_other() {
        for (given, path) in [
            ("a", "/workspace/a"),
            ("/tmp", "/tmp"),
            ("/home/sandbox/./x/", "/home/sandbox/x"),
        ] {
            assert_eq!(anywhere(given).as_deref(), Ok(path));
        }
        for (given, error) in [
            ("", PathError::Empty),
            ("/", PathError::OutsideVolumes),
            ("/home", PathError::OutsideVolumes),
            ("/tmpfile", PathError::OutsideVolumes),
            ("/tmp/../etc", PathError::Parent),
        ] {
            assert_eq!(anywhere(given), Err(error), "{given:?}");
        }
    }

    #[test]
    fn an_absolute_file_does_not_follow_the_directory() {
        assert_eq!(
            file("/workspace/a", "/workspace/d").unwrap(),
            "/workspace/a"
        );
    }

    #[test]
    fn names_that_only_look_like_dots_are_names() {
        assert_eq!(file("...", WORKSPACE).unwrap(), "/workspace/...".to_owned());
        assert_eq!(file("..a/.b", WORKSPACE).unwrap(), "/workspace/..a/.b");
    }

    #[test]
    fn each_refusal_has_its_reason() {
        for (given, error) in [
            ("", PathError::Empty),
            (".", PathError::Directory),
            ("/workspace", PathError::Directory),
            ("a/", PathError::Directory),
            ("a/.", PathError::Directory),
            ("..", PathError::Parent),
            ("a/../b", PathError::Parent),
            ("/workspace/../etc/passwd", PathError::Parent),
            ("/", PathError::Outside),
            ("/etc/passwd", PathError::Outside),
            ("/workspaces/a", PathError::Outside),
            ("/./workspace2", PathError::Outside),
            ("a\0b", PathError::Nul),
        ] {
            assert_eq!(file(given, WORKSPACE), Err(error), "{given:?}");
        }
    }

    #[test]
    fn the_longest_path_and_component_pass_and_one_byte_more_does_not() {
        let component = "c".repeat(MAX_COMPONENT_BYTES);
        assert!(file(&component, WORKSPACE).is_ok());
        assert_eq!(
            file(&format!("{component}c"), WORKSPACE),
            Err(PathError::ComponentTooLong(256))
        );

        let room = MAX_PATH_BYTES - WORKSPACE.len();
        let longest = "/c".repeat(room / 2) + &"c".repeat(room % 2);
        let path = file(&longest[1..], WORKSPACE).unwrap();
        assert_eq!(path.len(), MAX_PATH_BYTES);
        assert_eq!(
            file(&format!("{}c", &longest[1..]), WORKSPACE),
            Err(PathError::TooLong(4096))
        );
    }

    fn any_path() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            3 => Just("..".to_owned()),
            3 => Just(".".to_owned()),
            3 => Just(String::new()),
            3 => Just("workspace".to_owned()),
            6 => ".{0,6}",
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.join("/"))
    }

    proptest! {
        #[test]
        fn a_file_never_leaves_the_workspace(given in any_path(), base in any_path()) {
            let base = directory(&base).unwrap_or_else(|_| WORKSPACE.to_owned());
            if let Ok(path) = file(&given, &base) {
                prop_assert!(path.starts_with("/workspace/"));
                prop_assert!(!path.contains('\0') && path.len() <= MAX_PATH_BYTES);
                prop_assert!(path[1..].split('/').all(|name| !matches!(name, "" | "." | "..")));
                prop_assert_eq!(file(&path, &base), Ok(path.clone()), "normalising is done once");
            }
        }

        #[test]
        fn a_directory_never_leaves_the_workspace(given in any_path()) {
            if let Ok(path) = directory(&given) {
                prop_assert!(is_within(&path, WORKSPACE));
                prop_assert!(path[1..].split('/').all(|name| !matches!(name, "" | "." | "..")));
            }
        }
    }
}
