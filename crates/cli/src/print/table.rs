//! Columns as docker lays them out: padded to the widest cell and three spaces, at least ten wide, the last one
//! as it comes.

use super::safe;

/// Lays out rows whose cells stand between tabs, one line a row.
pub(crate) fn layout(rows: &[String]) -> String {
    wide(rows, 10)
}

/// The same with columns of at least `least` characters.
pub(crate) fn wide(rows: &[String], least: usize) -> String {
    let rows: Vec<Vec<_>> = rows.iter().map(|row| row.split('\t').map(safe::line).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |cell: &str| cell.chars().count();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
        })
        .map(|widest| (widest + 3).max(least))
        .collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, column) in row.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', column - width(cell)));
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_like_docker() {
        let rows = [
            "REPOSITORY\tTAG\tSIZE",
            "python\t3.8.5-alpine\t42.7MB",
            "a-much-longer-name\té\x07\t7B",
            "x\t\t",
        ];
        assert_eq!(
            layout(&rows.map(str::to_owned)),
            "REPOSITORY           TAG            SIZE\n\
             python               3.8.5-alpine   42.7MB\n\
             a-much-longer-name   é\\u{7}         7B\n\
             x\n"
        );
        assert_eq!(layout(&["ID\tB".to_owned()]), "ID        B\n");
        assert_eq!(layout(&[]), "");
    }
}
