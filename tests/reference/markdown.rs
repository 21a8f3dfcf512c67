//! Text of the sources as Markdown.

/// Text as it was meant, in a paragraph: what a reader would take for a tag is none.
pub fn text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut in_code = false;
    let mut before = ' ';
    for c in text.chars() {
        in_code ^= c == '`';
        match c {
            '<' if !in_code => escaped.push_str("&lt;"),
            // Within a word it has no meaning.
            '_' if before.is_alphanumeric() => escaped.push(c),
            '*' | '_' | '[' | ']' if !in_code => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
        before = c;
    }
    escaped
}

/// The same in a table's cell.
pub fn cell(it: &str) -> String {
    // GitHub's tables split at each bar, even in code.
    let lines: Vec<&str> = it.split_whitespace().collect();
    text(&lines.join(" ")).replace('|', "\\|")
}

/// The anchor that GitHub and mdBook make of a heading.
pub fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}
