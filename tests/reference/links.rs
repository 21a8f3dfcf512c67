//! Links from one file of the repository to another, and to headings.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use crate::{markdown, project};

/// Every Markdown file that is the repository's own.
fn documents() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard", "*.md"])
        .current_dir(project())
        .output()
        .expect("git is installed");
    assert!(listed.status.success(), "this is a clone");
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed.lines().map(str::to_owned).collect()
}

/// The lines that are neither in a block of code nor in a comment.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then(|| title.strip_prefix(' '))?
    });
    let mut anchors = BTreeSet::new();
    for heading in headings {
        let anchor = markdown::anchor(heading.trim());
        // The second heading of one name is another place.
        let mut unique = anchor.clone();
        for number in 1.. {
            if anchors.insert(unique) {
                break;
            }
            unique = format!("{anchor}-{number}");
        }
    }
    anchors
}

/// The targets of a line's links, without those that are code.
fn targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let outside_code = line.split('`').step_by(2);
    // A link's text may be code: what follows it is not.
    for piece in outside_code {
        let mut rest = piece;
        while let Some((_, after)) = rest.split_once("](") {
            let (target, after) = after.split_once(')').unwrap_or((after, ""));
            targets.push(target);
            rest = after;
        }
    }
    targets
}

fn wrong(from: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let from = Path::new(from);
    let path = if path.is_empty() {
        project().join(from)
    } else {
        project().join(from.parent().unwrap()).join(path)
    };
    if !path.exists() {
        return Some(format!("{} is not there", path.display()));
    }
    if anchor.is_empty() {
        return None;
    }
    let text = fs::read_to_string(&path).unwrap();
    let known = anchors(&text).contains(anchor);
    (!known).then(|| format!("{} has no heading #{anchor}", path.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(project().join(&document)).unwrap();
        for (number, line) in prose(&text) {
            for target in targets(line) {
                let reason = wrong(&document, target);
                broken.extend(reason.map(|it| format!("{document}:{number}: {target}: {it}")));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_document_is_in_the_book() {
    let summary = fs::read_to_string(project().join("SUMMARY.md")).unwrap();
    let missing: Vec<String> = documents()
        .into_iter()
        .filter(|it| it != "SUMMARY.md" && !summary.contains(&format!("]({it})")))
        .collect();
    assert!(missing.is_empty(), "add to SUMMARY.md: {missing:?}");
}

#[test]
fn a_broken_link_is_found() {
    assert_eq!(
        targets("see [`a` b](x.md#y), `[c](d)` and [e](f)."),
        ["x.md#y", "f"]
    );
    assert!(wrong("README.md", "docs/no-such.md").is_some());
    assert!(wrong("README.md", "docs/access.md#no-such").is_some());
    assert!(wrong("docs/access.md", "#tokens").is_none());
    assert!(wrong("docs/access.md", "../README.md#what-you-get").is_none());
    let twice = anchors("# One `two` (three)\n```\n# no\n```\n## Four\n## Four\n");
    let expected = ["four", "four-1", "one-two-three"];
    assert!(twice.iter().eq(expected), "{twice:?}");
}
