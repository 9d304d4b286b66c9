//! Proves that every `taskyard …` of the documents is understood by this tool.
//!
//! In a fence for a shell, and anywhere in the run book, a command must parse as it stands. In the text of other pages its
//! arguments may be left out.

use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;

use crate::arguments::CommandLine;

/// Where a command was found.
struct Found {
    place: String,
    text: String,
    is_whole: bool,
}

#[test]
fn every_command_of_the_documents_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages: Vec<PathBuf> = std::fs::read_dir(root.join("docs"))
        .expect("the docs are there")
        .map(|entry| entry.expect("is readable").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect();
    pages.push(root.join("README.md"));
    let mut n_commands = 0;
    let mut problems = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("is readable");
        let name = page.file_name().unwrap_or_default().to_string_lossy();
        for found in commands(&text, &name) {
            n_commands += 1;
            if let Err(problem) = understood(&found) {
                problems.push(format!("{}: {}: {problem}", found.place, found.text));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(n_commands > 100, "only {n_commands} commands were found");
}

#[test]
fn what_is_not_a_command_is_told_from_what_is() {
    let page = "`taskyard webhooks` and `taskyard retry TASK`\n```sh\n$ A=b taskyard list | x   # taskyard no\n\
                docker run taskyard/all taskyard-x\nx=$(taskyard get t1)\n```\n```python\ntaskyard = 1\n```\n";
    let texts: Vec<String> = commands(page, "page")
        .into_iter()
        .map(|found| found.text)
        .collect();
    assert_eq!(
        texts,
        [
            "taskyard webhooks",
            "taskyard retry TASK",
            "taskyard list ",
            "taskyard get t1"
        ]
    );
    let is_wrong = |text: &str, is_whole| {
        let text = text.to_owned();
        let place = String::new();
        understood(&Found {
            place,
            text,
            is_whole,
        })
        .is_err()
    };
    assert!(is_wrong("taskyard webhooks", true) && !is_wrong("taskyard webhooks", false));
    assert!(is_wrong("taskyard nothing", false) && is_wrong("taskyard list --nothing", false));
}

/// Whether clap takes it.
fn understood(found: &Found) -> Result<(), String> {
    let words = words(&found.text);
    if words.get(1).is_some_and(|word| word == "VERB") {
        return Ok(());
    }
    let Err(error) = CommandLine::try_parse_from(&words) else {
        return Ok(());
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(()),
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            if !found.is_whole =>
        {
            Ok(())
        }
        _ => Err(error.to_string().lines().next().unwrap_or("").to_owned()),
    }
}

/// All commands of a page.
fn commands(page: &str, name: &str) -> Vec<Found> {
    let mut found = Vec::new();
    // the language of the fence that is open
    let mut fence: Option<String> = None;
    let mut before = String::new();
    let mut paragraph = String::new();
    for (number, line) in page.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fence = match fence {
                None => Some(language.trim().to_owned()),
                Some(_) => None,
            };
            paragraph.clear();
            continue;
        }
        match fence.as_deref() {
            None => {
                if line.trim().is_empty() {
                    paragraph.clear();
                    continue;
                }
                // code may go on in the next line: it is taken where it ends
                let n_before = codes(&paragraph).count();
                paragraph.push_str(line.trim());
                paragraph.push(' ');
                for text in codes(&paragraph).skip(n_before) {
                    if text.starts_with("taskyard ") {
                        let (place, text) = (place.clone(), text.to_owned());
                        let is_whole = name == "runbook.md";
                        found.push(Found {
                            place,
                            text,
                            is_whole,
                        });
                    }
                }
            }
            Some("" | "sh" | "console" | "bash") => {
                before.push_str(line);
                if before.ends_with('\\') {
                    before.pop();
                    continue;
                }
                let whole = std::mem::take(&mut before);
                for text in commands_of_line(&whole) {
                    let place = place.clone();
                    found.push(Found {
                        place,
                        text,
                        is_whole: true,
                    });
                }
            }
            Some(_) => {}
        }
    }
    found
}

/// What stands in backticks and ends there.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    let n_ends = text.matches('`').count() / 2;
    text.split('`').skip(1).step_by(2).take(n_ends)
}

/// The commands of a line of shell: where one can begin, and up to where it ends.
fn commands_of_line(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = line.trim_start().trim_start_matches("$ ");
    loop {
        // variables that are set for the command alone
        while let Some((word, after)) = rest.split_once(' ')
            && word
                .split_once('=')
                .is_some_and(|(name, _)| is_variable(name))
            && !word.contains("$(")
        {
            rest = after.trim_start();
        }
        rest = rest.strip_prefix("target/debug/").unwrap_or(rest);
        let end = end_of(rest);
        if rest.starts_with("taskyard ") {
            found.push(rest[..end].to_owned());
        } else if let Some(at) = rest[..end].find("$(taskyard ") {
            rest = &rest[at + 2..];
            continue;
        }
        match rest[end..].chars().next() {
            Some('|' | ';' | '&') => {
                rest = rest[end..].trim_start_matches(['|', ';', '&', ' ']);
            }
            Some(_) | None => return found,
        }
    }
}

fn is_variable(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    !name.is_empty() && name.chars().all(is_part)
}

/// Where a command ends: at what separates it from the next, a redirection, a comment, or a wide gap before a remark.
fn end_of(text: &str) -> usize {
    let mut quote = None;
    let mut earlier = ' ';
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) => quote = (c != open || earlier == '\\').then_some(open),
            None => match c {
                '\'' | '"' => quote = Some(c),
                '|' | ';' | '&' | '<' | '>' | ')' => return at,
                '#' if earlier == ' ' => return at,
                ' ' if text[at..].starts_with("   ") => return at,
                _ => {}
            },
        }
        earlier = c;
    }
    text.len()
}

/// The words of a command, as a shell would take them apart; what stands for something is put in its place.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, ' ') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (Some('"') | None, '\\') => {
                if let Some(escaped) = chars.next() {
                    word.get_or_insert_default().push(escaped);
                }
            }
            (None, '[' | ']') => {}
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    for word in &mut words {
        match word.as_str() {
            "N" => "1".clone_into(word),
            "..." | "…" => "true".clone_into(word),
            _ => {}
        }
    }
    words
}
