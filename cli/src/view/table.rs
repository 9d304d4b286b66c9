//! Tables without borders: aligned, upper-case headers, as wide as the terminal, and whole in a pipe.

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Row, Table};

use crate::console;

/// Builds the text of one table.
#[derive(Debug)]
pub struct TextTable {
    table: Table,
    has_colour: bool,
    is_terminal: bool,
}

impl TextTable {
    /// For standard output as it is now.
    pub fn new(headers: &[&str]) -> TextTable {
        TextTable::with_width(headers, console::output_width(), console::has_colour())
    }

    fn with_width(headers: &[&str], width: Option<u16>, has_colour: bool) -> TextTable {
        let mut table = Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        table.force_no_tty();
        if has_colour {
            table.enforce_styling();
        }
        match width {
            Some(columns) => {
                table.set_width(columns);
                table.set_content_arrangement(ContentArrangement::Dynamic);
                table.set_truncation_indicator("…");
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        table.set_header(
            headers
                .iter()
                .map(|header| Cell::new(header.to_uppercase())),
        );
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        TextTable {
            table,
            has_colour,
            is_terminal: width.is_some(),
        }
    }

    /// Numbers are easier to compare from the right.
    pub fn align_right(&mut self, column_idx: usize) {
        if let Some(column) = self.table.column_mut(column_idx) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }

    /// Adds a row; the cell at `state_idx`, if any, is a task's state and takes its colour.
    pub fn add(&mut self, cells: Vec<String>, state_idx: Option<usize>) {
        let cells = cells.into_iter().enumerate().map(|(idx, text)| {
            let text = console::clean(&text);
            let colour = if state_idx == Some(idx) && self.has_colour {
                state_colour(&text)
            } else {
                None
            };
            let cell = Cell::new(text);
            match colour {
                Some(colour) => cell.fg(colour),
                None => cell,
            }
        });
        let mut row = Row::from(cells.collect::<Vec<_>>());
        if self.is_terminal {
            row.max_height(1);
        }
        self.table.add_row(row);
    }

    /// The lines, without blanks at their ends, the last one ended too.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in self.table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn state_colour(state: &str) -> Option<Color> {
    match state {
        "running" | "active" => Some(Color::Cyan),
        "awaiting_input" | "draining" => Some(Color::Yellow),
        "succeeded" => Some(Color::Green),
        "failed" | "lost" => Some(Color::Red),
        "canceled" | "gone" => Some(Color::DarkGrey),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_everything_and_a_terminal_gets_lines_that_fit() {
        let long = "a summary that goes on and on ".repeat(8);
        let build = |width| {
            let mut table = TextTable::with_width(&["task", "summary"], width, false);
            table.add(vec!["t1".to_owned(), long.clone()], None);
            table.add(
                vec!["t22".to_owned(), "bell \u{7} and\nline".to_owned()],
                None,
            );
            table.text()
        };
        let piped = build(None);
        assert!(piped.contains(long.trim_end()), "{piped}");
        assert!(
            piped.starts_with("TASK  SUMMARY\nt1    a summary"),
            "{piped}"
        );
        assert!(piped.contains("bell \u{fffd} and line"), "{piped}");
        let shown = build(Some(60));
        assert_eq!(shown.lines().count(), 3, "{shown}");
        assert!(
            shown.lines().all(|line| line.chars().count() <= 60),
            "{shown}"
        );
        assert!(shown.contains('…'), "{shown}");
    }
}
