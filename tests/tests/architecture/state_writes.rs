//! Finds statements that write the state of a live task.

/// True where a statement updates `task_live` and assigns to `state`.
pub fn writes_live_state(source: &str) -> bool {
    let source = source.to_lowercase();
    let words: Vec<&str> = source
        .split(|c: char| c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect();
    words.windows(2).enumerate().any(|(at, pair)| {
        pair[0].ends_with("update") && pair[1] == "task_live" && sets_state(&words[at + 2..])
    })
}

/// Looks for an assignment to `state` between `set` and the end of the set list.
fn sets_state(statement: &[&str]) -> bool {
    let set_list = statement
        .iter()
        .take(4)
        .position(|word| *word == "set")
        .map(|set| &statement[set + 1..]);
    let Some(set_list) = set_list else {
        return false;
    };
    let end = set_list
        .iter()
        .position(|word| ["where", "from", "returning"].contains(word) || word.contains(';'))
        .unwrap_or(set_list.len());
    set_list[..end].windows(2).any(|pair| {
        let name = pair[0].trim_start_matches('(');
        name == "state" && pair[1].starts_with('=') || name.starts_with("state=")
    })
}
