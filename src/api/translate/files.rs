//! Files that go in, and globs for those that come out.

use bytes::Bytes;

use super::path::check_mode;

use crate::{
    api::violations::{Violations, quoted},
    execution::{
        InputFile, KnownFile,
        paths::{self, MAX_PATH_BYTES},
    },
    proto::v1,
};

/// Most input files of one execution.
pub const MAX_INPUT_FILES: usize = 1000;

/// Most globs for output files of one execution.
pub const MAX_OUTPUT_PATHS: usize = 100;

/// Most output files that a caller can say it has.
pub const MAX_KNOWN_FILES: usize = 10_000;

const DEFAULT_MODE: u32 = 0o644;

pub(super) fn input(
    given: Vec<v1::InputFile>,
    working_directory: &str,
    (limit, disk_bytes): (&str, u64),
    violations: &mut Violations,
) -> Vec<InputFile> {
    if given.len() > MAX_INPUT_FILES {
        violations.add(
            "files",
            format!(
                "has {} files, where at most {MAX_INPUT_FILES} are allowed: send an archive and unpack it",
                given.len()
            ),
        );
        return Vec::new();
    }
    let bytes: u64 = given.iter().map(|file| size(&file.content)).sum();
    if bytes > disk_bytes {
        violations.add(
            "files",
            format!(
                "hold {bytes} bytes in all, over {limit}, which is {disk_bytes} here: send less, or raise it as far as the pool allows"
            ),
        );
    }

    let mut checked = Vec::with_capacity(given.len());
    for (index, file) in given.into_iter().enumerate() {
        let mode = mode(index, file.mode, violations);
        match paths::file(&file.path, working_directory) {
            Ok(path) => checked.push((
                index,
                InputFile {
                    path,
                    content: file.content,
                    mode,
                },
            )),
            Err(error) => violations.add(
                format!("files[{index}].path"),
                format!("{} {error}", quoted(&file.path)),
            ),
        }
    }
    refuse_collisions(&checked, working_directory, violations);
    checked.into_iter().map(|(_, file)| file).collect()
}

fn size(content: &Bytes) -> u64 {
    // usize is at most 64 bits wide on every platform that Rust has.
    u64::try_from(content.len()).unwrap_or(u64::MAX)
}

fn mode(index: usize, given: u32, violations: &mut Violations) -> u32 {
    check_mode(format!("files[{index}].mode"), given, violations);
    if given == 0 { DEFAULT_MODE } else { given }
}

/// A path must not come twice, and no file can be what another path needs as a directory.
fn refuse_collisions(
    files: &[(usize, InputFile)],
    working_directory: &str,
    violations: &mut Violations,
) {
    let holds_working_directory = |path: &str| paths::is_within(working_directory, path);
    for (index, file) in files {
        if holds_working_directory(&file.path) {
            violations.add(
                format!("files[{index}].path"),
                format!(
                    "{} is the working directory or one above it, so it cannot be a file: rename it",
                    quoted(&file.path)
                ),
            );
        }
    }

    // Ordered by components, all that lies below a path follows it directly: looking at
    // neighbours finds every collision, however deep the paths are.
    let mut sorted: Vec<&(usize, InputFile)> = files.iter().collect();
    sorted.sort_by(|(_, a), (_, b)| a.path.split('/').cmp(b.path.split('/')));
    for pair in sorted.windows(2) {
        let [(first, above), (second, below)] = pair else {
            continue;
        };
        if above.path == below.path {
            violations.add(
                format!("files[{second}].path"),
                format!(
                    "{} is the same file as files[{first}]: send each file once",
                    quoted(&below.path)
                ),
            );
        } else if paths::is_within(&below.path, &above.path)
            && !holds_working_directory(&above.path)
        {
            violations.add(
                format!("files[{first}].path"),
                format!(
                    "{} is the directory of files[{second}], so it cannot be a file: rename one of them",
                    quoted(&above.path)
                ),
            );
        }
    }
}

pub(super) fn output_paths(given: Vec<String>, violations: &mut Violations) -> Vec<String> {
    if given.len() > MAX_OUTPUT_PATHS {
        violations.add(
            "output_paths",
            format!(
                "has {} globs, where at most {MAX_OUTPUT_PATHS} are allowed: ** covers many files",
                given.len()
            ),
        );
        return Vec::new();
    }
    let mut checked = Vec::with_capacity(given.len());
    for (index, glob) in given.iter().enumerate() {
        match output_path(glob) {
            Ok(glob) => checked.push(glob),
            Err(error) => violations.add(
                format!("output_paths[{index}]"),
                format!("{} {error}", quoted(glob)),
            ),
        }
    }
    checked
}

pub(super) fn known(given: Vec<v1::KnownFile>, violations: &mut Violations) -> Vec<KnownFile> {
    if given.len() > MAX_KNOWN_FILES {
        violations.add(
            "known_files",
            format!(
                "has {} files, where at most {MAX_KNOWN_FILES} are allowed: leave some of them out",
                given.len()
            ),
        );
        return Vec::new();
    }
    let mut checked = Vec::with_capacity(given.len());
    for (index, file) in given.into_iter().enumerate() {
        match <[u8; 32]>::try_from(&file.sha256[..]) {
            Ok(sha256) => checked.push(KnownFile {
                path: file.path,
                size: file.size,
                sha256,
            }),
            Err(_) => violations.add(
                format!("known_files[{index}].sha256"),
                format!(
                    "has {} bytes, where a SHA-256 has 32: send it as bytes, not in hexadecimal",
                    file.sha256.len()
                ),
            ),
        }
    }
    checked
}

/// The glob without '.' and empty components: no file's path has them, so it could never match.
/// A '**' at the end becomes '**/*': the first finds directories, and what is meant is the files.
fn output_path(given: &str) -> Result<String, String> {
    if given.is_empty() {
        return Err("is empty: give a glob, for example out/*.csv".to_owned());
    }
    if given.contains('\0') {
        return Err("holds a NUL: leave it out".to_owned());
    }
    if given.len() > MAX_PATH_BYTES {
        return Err(format!(
            "has {} bytes, where at most {MAX_PATH_BYTES} are allowed",
            given.len()
        ));
    }
    if given.starts_with('/') {
        return Err("is absolute: give a glob relative to the working directory".to_owned());
    }
    let mut components: Vec<&str> = given
        .split('/')
        .filter(|component| !matches!(*component, "" | "."))
        .collect();
    if components.contains(&"..") {
        return Err(
            "holds '..': only files below the working directory are returned, leave it out"
                .to_owned(),
        );
    }
    let last = given.rsplit('/').next().unwrap_or_default();
    if matches!(last, "" | ".") {
        return Err(
            "names a directory, and only files are returned: add **/* for all files in it"
                .to_owned(),
        );
    }
    if components.last() == Some(&"**") {
        components.push("*");
    }
    let glob = components.join("/");
    match glob::Pattern::new(&glob) {
        Ok(_) => Ok(glob),
        Err(error) => Err(format!(
            "is not a glob, from character {} on ({}): *, ?, [...] and ** are allowed, [*] is a star itself",
            error.pos + 1,
            error.msg
        )),
    }
}
