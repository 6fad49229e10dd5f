//! Tables for people, and for programs that read them by their columns.

use std::fmt::Write;

/// Rows of cells, each column as wide as its widest cell. The last one may hold
/// anything, and is not padded.
pub(crate) fn render<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<_> = (0..N)
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{cell:<width$}", width = width + 3);
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// What a guest says, for a terminal: nothing that a terminal would act on.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let text = render(&[row("ID", "STATUS"), row("longer", "running")]);
        assert_eq!(text, "ID       STATUS\nlonger   running\n");
    }

    #[test]
    fn guests_do_not_write_to_terminals() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a?[2Jb?");
    }
}
