//! Reads Rust as far as the rules need it: paths, without comments and literals.

use std::path::Path;

/// Every path of two or more parts, and every `use` of a crate, with its line.
pub fn paths_in(file: &Path, source: &str) -> Vec<(usize, String)> {
    let source = without_comments_and_strings(source);
    let tokens = tokens_of(&source);
    let module = module_of(file);
    let mut found = Vec::new();
    let mut next = 0;
    while next < tokens.len() {
        let (line, token) = tokens[next];
        if token == "use" && tokens.get(next + 1).is_some_and(|(_, token)| *token != "<") {
            next = read_use_tree(&tokens, next + 1, &[], &mut |line, parts| {
                found.push((line, resolved(&module, parts)));
            });
        } else if is_name(token) {
            let mut parts = vec![token];
            while next + 2 < tokens.len()
                && tokens[next + 1].1 == "::"
                && is_name(tokens[next + 2].1)
            {
                parts.push(tokens[next + 2].1);
                next += 2;
            }
            if parts.len() > 1 {
                found.push((line, resolved(&module, &parts)));
            }
            next += 1;
        } else {
            next += 1;
        }
    }
    found
}

/// Reads one branch of a `use` tree and gives each of its leaves to `leaf`. Returns the place after the branch.
fn read_use_tree<'a>(
    tokens: &[(usize, &'a str)],
    mut next: usize,
    prefix: &[&'a str],
    leaf: &mut dyn FnMut(usize, &[&'a str]),
) -> usize {
    let mut parts = prefix.to_vec();
    let mut line = tokens.get(next).map_or(0, |token| token.0);
    while let Some(&(token_line, token)) = tokens.get(next) {
        match token {
            "::" => next += 1,
            "{" => {
                next += 1;
                while tokens.get(next).is_some_and(|(_, token)| *token != "}") {
                    next = read_use_tree(tokens, next, &parts, leaf);
                    if tokens.get(next).is_some_and(|(_, token)| *token == ",") {
                        next += 1;
                    }
                }
                return next + 1;
            }
            "as" => next += 2,
            "," | "}" | ";" => break,
            part => {
                line = token_line;
                parts.push(part);
                next += 1;
            }
        }
    }
    leaf(line, &parts);
    next
}

/// `self` and `super` at the front become paths from `crate`.
fn resolved(module: &[String], parts: &[&str]) -> String {
    let mut base: Vec<&str> = module.iter().map(String::as_str).collect();
    let mut rest = parts;
    match rest.first() {
        Some(&"self") => rest = &rest[1..],
        Some(&"super") => {
            while rest.first() == Some(&"super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        _ => base.clear(),
    }
    base.extend(rest);
    base.join("::")
}

/// `server/src/control/cancel_task.rs` is `crate::control::cancel_task`.
fn module_of(file: &Path) -> Vec<String> {
    let mut parts = vec!["crate".to_owned()];
    let inside = file.with_extension("");
    let below_src = inside
        .components()
        .skip_while(|part| part.as_os_str() != "src")
        .skip(1);
    for part in below_src {
        let part = part.as_os_str().to_string_lossy();
        if !["mod", "lib", "main"].contains(&part.as_ref()) {
            parts.push(part.into_owned());
        }
    }
    parts
}

/// Names, `::`, and each other visible character, with its line.
fn tokens_of(source: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    for (index, text) in source.lines().enumerate() {
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if rest.starts_with("::") {
                2
            } else if is_name_character(first) {
                rest.find(|c| !is_name_character(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            tokens.push((index + 1, &rest[..length]));
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// The names in a line.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_name_character(c))
        .filter(|word| !word.is_empty())
}

fn is_name(token: &str) -> bool {
    token
        .chars()
        .next()
        .is_some_and(|c| c.is_alphabetic() || c == '_')
}

fn is_name_character(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The source with comments blanked out.
pub fn without_comments(source: &str) -> String {
    blanked(source, false)
}

/// The source with comments and literals blanked out.
pub fn without_comments_and_strings(source: &str) -> String {
    blanked(source, true)
}

/// Replaces comments, and on request string and character literals, by spaces. Line breaks stay where they are.
fn blanked(source: &str, strings_too: bool) -> String {
    let bytes = source.as_bytes();
    let mut result = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let is_after_name =
            at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let (length, is_comment) = if rest.starts_with(b"//") {
            (
                rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()),
                true,
            )
        } else if rest.starts_with(b"/*") {
            (block_comment_length(rest), true)
        } else if let Some(length) = (!is_after_name).then(|| raw_string_length(rest)).flatten() {
            (length, false)
        } else if rest[0] == b'"' {
            (string_length(rest), false)
        } else if let Some(length) = character_length(rest) {
            (length, false)
        } else {
            at += 1;
            continue;
        };
        if is_comment || strings_too {
            for byte in &mut result[at..at + length] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at += length;
    }
    String::from_utf8_lossy(&result).into_owned()
}

fn block_comment_length(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#` and the same with a `b` or `c` in front.
fn raw_string_length(rest: &[u8]) -> Option<usize> {
    let prefix = usize::from(matches!(rest[0], b'b' | b'c'));
    if rest.get(prefix) != Some(&b'r') {
        return None;
    }
    let n_hashes = rest[prefix + 1..]
        .iter()
        .take_while(|&&b| b == b'#')
        .count();
    let start = prefix + 1 + n_hashes;
    if rest.get(start) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &b"#".repeat(n_hashes)].concat();
    let length = rest[start + 1..]
        .windows(end.len())
        .position(|window| window == end)?;
    Some(start + 1 + length + end.len())
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal; none for a lifetime.
fn character_length(rest: &[u8]) -> Option<usize> {
    if rest[0] != b'\'' || rest.len() < 3 {
        return None;
    }
    if rest[1] == b'\\' {
        let closing = rest[3..].iter().position(|&b| b == b'\'')?;
        return Some(3 + closing + 1);
    }
    // One character of up to four bytes, then the closing quote.
    let width = std::str::from_utf8(&rest[1..rest.len().min(5)])
        .map_or_else(|error| error.valid_up_to(), str::len);
    let first = std::str::from_utf8(&rest[1..1 + width])
        .ok()?
        .chars()
        .next()?;
    (rest.get(1 + first.len_utf8()) == Some(&b'\'')).then_some(2 + first.len_utf8())
}
