//! The keys that leave a task: `~.` at the beginning of a line, as with ssh. All others are the task's.

/// What was typed so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Escape {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineBegins,
    InLine,
    /// A `~` that began a line is kept back.
    Tilde,
}

impl Escape {
    /// Nothing was typed yet, which is the beginning of a line.
    pub fn new() -> Escape {
        Escape {
            state: State::LineBegins,
        }
    }

    /// Takes keys and appends to `keys` what is the task's of them. True: the user leaves; what follows is nobody's.
    pub fn push(&mut self, typed: &[u8], keys: &mut Vec<u8>) -> bool {
        for &key in typed {
            match (self.state, key) {
                (State::LineBegins, b'~') => {
                    self.state = State::Tilde;
                    continue;
                }
                (State::Tilde, b'.') => return true,
                // The second one is meant.
                (State::Tilde, b'~') => {}
                (State::Tilde, _) => keys.push(b'~'),
                (State::LineBegins | State::InLine, _) => {}
            }
            keys.push(key);
            self.state = if matches!(key, b'\r' | b'\n') {
                State::LineBegins
            } else {
                State::InLine
            };
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the task gets, and whether the user leaves, however the keys come.
    fn typed(text: &str) -> (String, bool) {
        let mut whole = Vec::new();
        let left = Escape::new().push(text.as_bytes(), &mut whole);
        let mut escape = Escape::new();
        let mut single = Vec::new();
        let left_by_one = text.bytes().any(|key| escape.push(&[key], &mut single));
        assert_eq!((left, &whole), (left_by_one, &single), "{text:?}");
        (String::from_utf8(whole).expect("text"), left)
    }

    fn kept(text: &str) -> (String, bool) {
        (text.to_owned(), false)
    }

    #[test]
    fn a_tilde_and_a_dot_leave_at_the_beginning_of_a_line_only() {
        assert_eq!(typed("~.rest"), (String::new(), true));
        assert_eq!(typed("ls\r~."), ("ls\r".to_owned(), true));
        assert_eq!(typed("ls ~.\r"), kept("ls ~.\r"));
        assert_eq!(typed("\r\n.~"), kept("\r\n.~"));
    }

    #[test]
    fn a_tilde_that_is_meant_gets_through() {
        assert_eq!(typed("~/bin\r"), kept("~/bin\r"));
        assert_eq!(typed("~~.\r~~/x"), kept("~.\r~/x"));
        assert_eq!(typed("~\r~x"), kept("~\r~x"));
        assert_eq!(typed("~"), kept(""), "it waits for the next key");
    }
}
